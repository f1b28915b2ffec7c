// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "glog/logging.h"

namespace quire {

BeamSearch::BeamSearch(const BeamSearchOptions& options)
    : options_(options), running_(1), scores_(1, 0), nodes_of_(1, -1) {
  CHECK_GE(options.width, 1);
  CHECK_GE(options.max_tokens, 1);
}

void BeamSearch::Advance(
    absl::Span<const absl::Span<const TopLogprob>> candidates) {
  CHECK(!is_done_);
  CHECK_EQ(candidates.size(), running_.size());
  Rank(candidates);
  ++num_steps_;
  const bool is_last = num_steps_ == options_.max_tokens;
  running_.clear();
  next_scores_.clear();
  next_nodes_.clear();
  for (size_t place = 0; place < ranked_.size(); ++place) {
    const Candidate& candidate = ranked_[place];
    if (candidate.stops || is_last) {
      // Those below only stood by, so that enough others would go on.
      if (place < options_.width) Finish(candidate);
    } else if (num_running() < options_.width) {
      running_.push_back({candidate.parent, candidate.token});
      next_scores_.push_back(candidate.score);
      next_nodes_.push_back(AddNode(candidate));
    }
  }
  scores_.swap(next_scores_);
  nodes_of_.swap(next_nodes_);
  KeepBest();
  is_done_ = running_.empty() || !CanImprove();
}

void BeamSearch::Rank(
    absl::Span<const absl::Span<const TopLogprob>> candidates) {
  const std::vector<TokenId>& stops = options_.stop_token_ids;
  const bool may_stop = num_steps_ >= options_.min_tokens;
  ranked_.clear();
  for (int32_t parent = 0; parent < num_running(); ++parent) {
    int32_t rank = 0;
    for (const TopLogprob& top : candidates[parent]) {
      const bool stops_here =
          std::find(stops.begin(), stops.end(), top.token_id) != stops.end();
      // One that may not be chosen leaves the others' probabilities alone.
      if (may_stop || !stops_here) {
        ranked_.push_back({.score = scores_[parent] + top.logprob,
                           .parent = parent,
                           .rank = rank,
                           .token = top.token_id,
                           .logprob = top.logprob,
                           .stops = stops_here});
      }
      ++rank;
    }
  }
  std::sort(ranked_.begin(), ranked_.end(),
            [](const Candidate& a, const Candidate& b) {
              return std::tuple(-a.score, a.parent, a.rank) <
                     std::tuple(-b.score, b.parent, b.rank);
            });
}

int32_t BeamSearch::AddNode(const Candidate& candidate) {
  nodes_.push_back({.previous = nodes_of_[candidate.parent],
                    .token = candidate.token,
                    .logprob = candidate.logprob,
                    .parent = candidate.parent,
                    .rank = candidate.rank});
  return static_cast<int32_t>(nodes_.size()) - 1;
}

void BeamSearch::Finish(const Candidate& candidate) {
  hypotheses_.push_back({.score = Normalised(candidate.score, num_steps_),
                         .node = AddNode(candidate),
                         .stopped = candidate.stops});
}

void BeamSearch::KeepBest() {
  std::stable_sort(hypotheses_.begin(), hypotheses_.end(),
                   [](const Hypothesis& a, const Hypothesis& b) {
                     return a.score > b.score;
                   });
  if (hypotheses_.size() > options_.width) hypotheses_.resize(options_.width);
}

// The power is taken in double and the quotient in float, as Python and torch
// do.
float BeamSearch::Normalised(float score, int32_t num_tokens) const {
  return score /
         static_cast<float>(std::pow(double{static_cast<double>(num_tokens)},
                                     double{options_.length_penalty}));
}

// Whether running beams may yet better the hypotheses, by the rule of
// early_stopping.
bool BeamSearch::CanImprove() const {
  if (hypotheses_.size() < options_.width) return true;
  if (options_.early_stopping == EarlyStopping::kTrue) return false;
  const bool is_longest_best =
      options_.early_stopping == EarlyStopping::kNever &&
      options_.length_penalty > 0;
  const int32_t num_tokens = is_longest_best ? options_.max_tokens : num_steps_;
  return Normalised(scores_.front(), num_tokens) > hypotheses_.back().score;
}

BeamSearch::Output BeamSearch::OutputOf(const Hypothesis& hypothesis) const {
  Output output;
  for (int32_t idx = hypothesis.node; idx >= 0; idx = nodes_[idx].previous) {
    output.tokens.push_back(nodes_[idx].token);
    output.logprobs.push_back(nodes_[idx].logprob);
    output.parents.push_back(nodes_[idx].parent);
    output.ranks.push_back(nodes_[idx].rank);
  }
  std::reverse(output.tokens.begin(), output.tokens.end());
  std::reverse(output.logprobs.begin(), output.logprobs.end());
  std::reverse(output.parents.begin(), output.parents.end());
  std::reverse(output.ranks.begin(), output.ranks.end());
  return output;
}

}  // namespace quire
