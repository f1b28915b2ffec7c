// SPDX-License-Identifier: Apache-2.0
//
// A beam search over the sequences of a group: which of them runs which beam,
// whose distributions have come, and what becomes of each next. The search
// itself is beam_search.h; slots and blocks are the engine's.
//
// Beams advance together: a step of the search is made when the distribution
// after every running beam has come, in however many step results. A beam that
// goes on stays in its sequence; if several beams continue the same one, the
// best of them stays and the others fork into sequences whose beams are dead.
#ifndef COORDINATOR_ENGINE_BEAM_GROUP_H_
#define COORDINATOR_ENGINE_BEAM_GROUP_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "coordinator/engine/beam_search.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// Engine thread only.
class BeamGroup {
 public:
  // REQUIRES: sampling.beam_width > 0.
  explicit BeamGroup(const SamplingParams& sampling);

  // What the slots of a search are asked for: greedy, so that the next token
  // often is the best beam's, and the likeliest tokens by the model's own
  // probabilities. min_tokens is the search's to see to.
  static SlotSampling SlotSamplingOf(const SamplingParams& sampling);

  int32_t num_sequences() const { return num_sequences_; }
  int32_t num_running() const { return static_cast<int32_t>(seq_of_.size()); }
  // Whether a beam runs in the sequence; at first only in sequence 0.
  bool IsRunning(int32_t seq_idx) const;

  // The distribution after sequence `seq_idx` has come, and what its ranks
  // sampled; the last word counts. REQUIRES: IsRunning(seq_idx).
  void AddResult(int32_t seq_idx, TokenId sampled, SampledLogprobs logprobs);
  // Results that have come will come again: all beams are computed anew.
  void DropResults();
  bool is_complete() const { return num_missing_ == 0; }

  // A beam of the next step: what sequence `parent_idx` was, and `token`, runs
  // in sequence `seq_idx`. Equal: it stays.
  struct Move {
    int32_t seq_idx = 0;
    int32_t parent_idx = 0;
    TokenId token = 0;
    bool is_sampled = false;  // the parent's ranks know it already

    friend bool operator==(const Move&, const Move&) = default;
  };

  // Makes a step. The moves are those of the beams that run on, best first;
  // other sequences are dead. None when is_done(). Valid until the next call.
  // REQUIRES: is_complete(), not is_done().
  absl::Span<const Move> Advance();

  bool is_done() const { return search_.is_done(); }

  // The `n` best hypotheses, best first, as outputs 0 .. n - 1 of `request`,
  // whole; with logprobs if they were asked for. REQUIRES: is_done().
  void AppendOutputs(RequestKey request,
                     std::vector<SequenceOutput>* outputs) const;

 private:
  void FillLogprobs(const BeamSearch::Output& found,
                    SequenceOutput* output) const;

  const int32_t num_sequences_;
  const int32_t num_returned_;
  const int32_t num_logprobs_;  // that the request asked for; -1: none
  BeamSearch search_;
  std::vector<int32_t> seq_of_;  // [num_running] by rank
  // [num_running]; empty: has not come.
  std::vector<std::vector<TopLogprob>> results_;
  std::vector<TokenId> sampled_;  // [num_running]
  int32_t num_missing_ = 1;
  std::vector<Move> moves_;
  // If logprobs were asked for: of every step and beam, the top that is told.
  std::vector<std::vector<std::vector<TopLogprob>>> told_;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_BEAM_GROUP_H_
