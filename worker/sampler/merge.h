// SPDX-License-Identifier: Apache-2.0
//
// From what the shards of the vocabulary say of one row to its token. Pure, so
// that every rank, given the same bytes, chooses the same token.
#ifndef WORKER_SAMPLER_MERGE_H_
#define WORKER_SAMPLER_MERGE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "kernels/sample.h"

namespace quire {

// One rank's word on one row.
struct ShardRow {
  const ShardSummary* summary;
  const Candidate* candidates;  // [num_candidates], best first
  int32_t num_candidates;       // 0: none were exchanged
  int32_t num_ids;              // columns of the shard
};

// Walks the candidates of all shards from the best down, by (logit descending,
// id ascending).
class CandidateWalk {
 public:
  explicit CandidateWalk(absl::Span<const ShardRow> shards);

  // The next one; null when all have been walked (is_exhausted()) or when the
  // next cannot be known, because a shard did not send enough.
  const Candidate* Next();
  bool is_exhausted() const { return is_exhausted_; }

 private:
  absl::Span<const ShardRow> shards_;
  absl::InlinedVector<int32_t, 8> heads_;  // [shards]
  bool is_exhausted_ = false;
};

struct ChosenToken {
  TokenId token_id = -1;
  float raw_logit = 0;
};

// Whether choosing needs candidates, not just summaries.
bool NeedsCandidates(const SlotSampling& sampling);

// The token at absolute index `position`. Filters apply in vLLM's order, after
// penalties and temperature: min_p, top_k (exactly k: of equal logits the lower
// id stays), top_p. Nothing if the candidates do not show which tokens stay:
// ask again with more; what is chosen does not depend on how many were given.
// Internal if the model's logits hold NaN or infinity, or no token may be
// chosen. `kept` is working memory.
//
// The sums of top_p are the shards' own, in float: cutting the vocabulary
// elsewhere may move them by 1e-6 of their value, everything else by nothing.
absl::StatusOr<std::optional<ChosenToken>> ChooseToken(
    absl::Span<const ShardRow> shards, const SlotSampling& sampling,
    int64_t position, std::vector<Candidate>* kept);

// Fills in logprob, rank and the `num_top` likeliest by the model's own
// probabilities. False if the candidates do not reach far enough.
// REQUIRES: no penalty or mask is in the shards' logits: logit = raw_logit /
// `divisor`.
bool FillLogprobs(absl::Span<const ShardRow> shards, const ChosenToken& chosen,
                  float divisor, int32_t num_top, SampledLogprobs* out);

// Log probabilities, by the model's own, of a token with this raw logit and of
// the `num_top` likeliest, or all that there are. Leaves `rank` 0.
// REQUIRES: every shard's candidates are of its raw logits, at least num_top.
SampledLogprobs LogprobsOf(absl::Span<const ShardRow> shards, float raw_logit,
                           int32_t num_top);

// What a ChoiceError says, for people.
const char* ExplainChoice(int32_t error);

}  // namespace quire

#endif  // WORKER_SAMPLER_MERGE_H_
