// SPDX-License-Identifier: Apache-2.0
//
// Rules of requests to grammars over the served model's tokens.
#ifndef COORDINATOR_GATEWAY_GRAMMAR_SOURCE_H_
#define COORDINATOR_GATEWAY_GRAMMAR_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/text/grammar.h"
#include "common/text/tokenizer.h"
#include "coordinator/gateway/token_rules.h"

namespace quire {

// Thread-safe.
class GrammarSource {
 public:
  // `tokenizer` is borrowed.
  GrammarSource(const Tokenizer* tokenizer, int32_t vocab_size,
                std::vector<TokenId> eos_token_ids);

  // InvalidArgument names the field, the rule's beginning, what is wrong and
  // the remedy. The first call arranges the vocabulary, which others wait for.
  absl::StatusOr<Grammar> Compile(const TextStructure& structure)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<const GrammarVocab*> Vocab() ABSL_LOCKS_EXCLUDED(mutex_);

  const Tokenizer* const tokenizer_;
  const int32_t vocab_size_;
  const std::vector<TokenId> eos_token_ids_;
  absl::Mutex mutex_;
  // Made when it is first needed; does not change then.
  std::optional<absl::StatusOr<std::unique_ptr<GrammarVocab>>> vocab_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_GRAMMAR_SOURCE_H_
