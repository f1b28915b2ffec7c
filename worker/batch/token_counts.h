// SPDX-License-Identifier: Apache-2.0
//
// How often a sequence has seen each token: what penalties read.
#ifndef WORKER_BATCH_TOKEN_COUNTS_H_
#define WORKER_BATCH_TOKEN_COUNTS_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "kernels/sample.h"

namespace quire {

// Thread-compatible. A token seen for the first time may allocate.
class TokenCounts {
 public:
  static bool IsNeeded(const SlotSampling& sampling) {
    return sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
           sampling.repetition_penalty != 1;
  }

  void Clear();
  // The first `num_prompt` tokens only count as seen.
  void Reset(absl::Span<const TokenId> tokens, int32_t num_prompt);
  void AddOutput(TokenId token) { ++At(token).output_count; }

  // Every token once, in the order of its first appearance.
  const std::vector<SeenToken>& seen() const { return seen_; }

 private:
  SeenToken& At(TokenId token);

  std::vector<SeenToken> seen_;
  absl::flat_hash_map<TokenId, int32_t> idx_;  // into seen_
};

}  // namespace quire

#endif  // WORKER_BATCH_TOKEN_COUNTS_H_
