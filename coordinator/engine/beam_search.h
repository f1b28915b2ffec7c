// SPDX-License-Identifier: Apache-2.0
//
// Beam search as Hugging Face's generate() does it (transformers 5.17,
// GenerationMixin._beam_search for one prompt), as arithmetic alone: no
// sequences, no slots.
//
// At each step every running beam is extended by every token; the score of an
// extension is the sum of its tokens' log probabilities, kept in float as
// there. The best `width` extensions that do not end run on. An extension ends
// with a stop token, or by reaching max_tokens; if it is among the best `width`
// of all, it becomes a hypothesis, ranked by score / num_tokens ^
// length_penalty, the stop token counted. The best `width` hypotheses are kept.
//
// How much of each distribution must be known: nobody needs more than `width`
// tokens of one beam that do not end, nor anything ranked below those; tokens
// that end are at most as many as there are stop tokens. So the
// num_candidates() = width + num_stop_tokens likeliest tokens of each beam
// suffice. (There the best max(2, 1 + num_stop_tokens) * width of all
// extensions are looked at, which always holds `width` that do not end, so that
// bound decides nothing.)
//
// Equal scores: of extensions the earlier parent comes first, then the parent's
// likelier token, then the lower id; of hypotheses the older one, then the
// better-ranked extension. torch.topk, which decides there, promises no order
// of equals, so results may differ from its where floats tie.
//
// Two deliberate differences, both out of reach of models and of sane
// parameters: -1e9 stands for "none" there, so that hypotheses scored below it
// are lost and missing beams of vocabularies smaller than the width run as
// copies of the prompt. Here there are none, and fewer beams run.
#ifndef COORDINATOR_ENGINE_BEAM_SEARCH_H_
#define COORDINATOR_ENGINE_BEAM_SEARCH_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"

namespace quire {

struct BeamSearchOptions {
  int32_t width = 2;  // [1, kMaxBeamWidth]
  float length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::kFalse;
  std::vector<TokenId> stop_token_ids;  // none twice
  int32_t min_tokens = 0;  // no stop token is chosen before so many
  int32_t max_tokens = 1;  // >= 1
};

// Of each beam's likeliest tokens, what Advance must be given.
inline int32_t NumBeamCandidates(int32_t width, int32_t num_stop_tokens) {
  return width + num_stop_tokens;
}

// Thread-compatible.
class BeamSearch {
 public:
  explicit BeamSearch(const BeamSearchOptions& options);

  // A running beam of the next step: the `parent`-th of this one, and `token`.
  struct Extension {
    int32_t parent = 0;
    TokenId token = 0;

    friend bool operator==(const Extension&, const Extension&) = default;
  };

  // What ended; best first in hypotheses().
  struct Hypothesis {
    float score = 0;
    int32_t node = 0;      // see Tokens()
    bool stopped = false;  // its last token is a stop token
  };

  // candidates[i] are the i-th running beam's likeliest tokens, by (log
  // probability descending, id ascending): at least num_candidates() of them,
  // or the whole vocabulary. Log probabilities are the model's own. At first
  // one beam runs: the prompt. Afterwards running() and hypotheses() are those
  // of the next step, or is_done(). REQUIRES: not done, one list per running
  // beam.
  void Advance(absl::Span<const absl::Span<const TopLogprob>> candidates);

  // Best first; [1, width] unless is_done().
  absl::Span<const Extension> running() const { return running_; }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  // The best `width` so far, best first. At the end there are `width` of them,
  // unless the vocabulary has not that many continuations.
  absl::Span<const Hypothesis> hypotheses() const { return hypotheses_; }
  bool is_done() const { return is_done_; }

  int32_t num_steps() const { return num_steps_; }
  int32_t num_candidates() const {
    return NumBeamCandidates(
        options_.width, static_cast<int32_t>(options_.stop_token_ids.size()));
  }

  // The output tokens of a hypothesis, and the log probability of each.
  struct Output {
    std::vector<TokenId> tokens;
    std::vector<float> logprobs;
    // Per token: running beam that it extended, and its place among that
    // beam's candidates, from 0.
    std::vector<int32_t> parents;
    std::vector<int32_t> ranks;
  };
  Output OutputOf(const Hypothesis& hypothesis) const;

 private:
  // A token of some beam, linked to the one before it: histories share what
  // they have in common, as blocks do.
  struct Node {
    int32_t previous = -1;
    TokenId token = 0;
    float logprob = 0;
    int32_t parent = 0;
    int32_t rank = 0;
  };
  struct Candidate {
    float score = 0;
    int32_t parent = 0;
    int32_t rank = 0;
    TokenId token = 0;
    float logprob = 0;
    bool stops = false;
  };

  void Rank(absl::Span<const absl::Span<const TopLogprob>> candidates);
  int32_t AddNode(const Candidate& candidate);
  void Finish(const Candidate& candidate);
  void KeepBest();
  float Normalised(float score, int32_t num_tokens) const;
  bool CanImprove() const;

  const BeamSearchOptions options_;
  std::vector<Extension> running_;
  std::vector<float> scores_;      // [num_running]
  std::vector<int32_t> nodes_of_;  // [num_running] last tokens
  std::vector<Hypothesis> hypotheses_;
  std::vector<Node> nodes_;
  std::vector<Candidate> ranked_;  // of the step at work
  std::vector<float> next_scores_;
  std::vector<int32_t> next_nodes_;
  int32_t num_steps_ = 0;
  bool is_done_ = false;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_BEAM_SEARCH_H_
