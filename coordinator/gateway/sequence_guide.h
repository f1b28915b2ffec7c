// SPDX-License-Identifier: Apache-2.0
//
// What one sequence of a request with structured output may sample next.
#ifndef COORDINATOR_GATEWAY_SEQUENCE_GUIDE_H_
#define COORDINATOR_GATEWAY_SEQUENCE_GUIDE_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/text/grammar.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// Thread-compatible.
class SequenceGuide {
 public:
  // Ids other than `allowed` may not come whatever the grammar says; empty: all
  // may.
  SequenceGuide(Grammar grammar, absl::Span<const TokenId> allowed);

  // With its progress.
  absl::StatusOr<SequenceGuide> Clone() const;

  // The sequence went on with these tokens.
  absl::Status Accept(absl::Span<const TokenId> tokens);

  // What may come next. InvalidArgument says after how many tokens there is
  // nothing, or that it costs too much to know.
  absl::StatusOr<TokenMask> Next();

 private:
  SequenceGuide(Grammar grammar, TokenMask allowed, int64_t num_tokens)
      : grammar_(std::move(grammar)),
        allowed_(std::move(allowed)),
        num_tokens_(num_tokens) {}

  absl::Status Explain(const absl::Status& status) const;

  Grammar grammar_;
  TokenMask allowed_;  // empty: all
  int64_t num_tokens_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_SEQUENCE_GUIDE_H_
