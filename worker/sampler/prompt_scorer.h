// SPDX-License-Identifier: Apache-2.0
//
// How likely given tokens are: logits to log probabilities, together with the
// other ranks.
#ifndef WORKER_SAMPLER_PROMPT_SCORER_H_
#define WORKER_SAMPLER_PROMPT_SCORER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/sampler/merge.h"

namespace quire {

// A token to be scored by one row of logits.
struct ScoredToken {
  TokenId token_id = 0;
  int32_t num_top = 0;  // [0, kMaxSlotLogprobs] likeliest to tell besides
};

// Thread-compatible; the executor thread is the sole caller. Allocates, after
// creation, what it returns.
class PromptScorer {
 public:
  // Every rank calls it. `backend` and `collective` must live longer.
  static absl::StatusOr<std::unique_ptr<PromptScorer>> Create(
      Backend* backend, Collective* collective, VocabShard vocab,
      int32_t max_num_rows);

  // Appends the log probability of every token by its row of `logits` [tokens,
  // vocab.num_ids] (device memory); sample_idx is left 0. Every rank calls it
  // with the same tokens. Internal if the logits hold NaN or infinity.
  // REQUIRES: at most max_num_rows tokens.
  absl::Status Score(const float* logits, absl::Span<const ScoredToken> tokens,
                     std::vector<SampledLogprobs>* out);

 private:
  PromptScorer(Backend* backend, Collective* collective, VocabShard vocab,
               int32_t max_num_rows);

  // Runs the shard over `rows_` and exchanges summaries and candidates.
  absl::Status Exchange(const float* logits, int32_t num_candidates);
  absl::Span<const ShardRow> Shards(int32_t row_idx, int32_t num_candidates);

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  const int32_t max_num_rows_;
  int32_t num_rows_ = 0;  // of the call at work

  std::unique_ptr<DeviceBuffer> rows_;      // [max_num_rows] SampleRow
  std::unique_ptr<DeviceBuffer> sent_;      // summaries, then candidates
  std::unique_ptr<DeviceBuffer> gathered_;  // [world_size] of these
  std::vector<ShardRow> shards_;            // [world_size]
};

}  // namespace quire

#endif  // WORKER_SAMPLER_PROMPT_SCORER_H_
