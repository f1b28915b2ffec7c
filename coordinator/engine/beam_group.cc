// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/beam_group.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"

namespace quire {
namespace {

BeamSearchOptions SearchOptionsOf(const SamplingParams& sampling) {
  BeamSearchOptions options;
  options.width = sampling.beam_width;
  options.length_penalty = sampling.length_penalty;
  options.early_stopping = sampling.early_stopping;
  options.stop_token_ids = sampling.stop_token_ids;
  std::sort(options.stop_token_ids.begin(), options.stop_token_ids.end());
  options.stop_token_ids.erase(
      std::unique(options.stop_token_ids.begin(), options.stop_token_ids.end()),
      options.stop_token_ids.end());
  options.min_tokens = sampling.slot.min_tokens;
  options.max_tokens = sampling.max_tokens;
  return options;
}

}  // namespace

BeamGroup::BeamGroup(const SamplingParams& sampling)
    : num_sequences_(sampling.beam_width),
      num_returned_(sampling.n),
      num_logprobs_(sampling.slot.num_logprobs),
      search_(SearchOptionsOf(sampling)),
      seq_of_(1, 0),
      results_(1),
      sampled_(1) {
  CHECK_GT(sampling.beam_width, 0);
}

SlotSampling BeamGroup::SlotSamplingOf(const SamplingParams& sampling) {
  SlotSampling slot;
  slot.temperature = 0;
  slot.seed = sampling.slot.seed;
  slot.num_logprobs = std::max(
      sampling.slot.num_logprobs,
      NumBeamCandidates(sampling.beam_width,
                        static_cast<int32_t>(
                            SearchOptionsOf(sampling).stop_token_ids.size())));
  return slot;
}

bool BeamGroup::IsRunning(int32_t seq_idx) const {
  return std::find(seq_of_.begin(), seq_of_.end(), seq_idx) != seq_of_.end();
}

void BeamGroup::AddResult(int32_t seq_idx, TokenId sampled,
                          SampledLogprobs logprobs) {
  const auto it = std::find(seq_of_.begin(), seq_of_.end(), seq_idx);
  CHECK(it != seq_of_.end()) << "no beam runs in sequence " << seq_idx;
  CHECK(!logprobs.top.empty()) << "a beam without candidates";
  sampled_[it - seq_of_.begin()] = sampled;
  std::vector<TopLogprob>& result = results_[it - seq_of_.begin()];
  num_missing_ -= result.empty() ? 1 : 0;
  result = std::move(logprobs.top);
}

void BeamGroup::DropResults() {
  for (std::vector<TopLogprob>& result : results_) result.clear();
  num_missing_ = num_running();
}

absl::Span<const BeamGroup::Move> BeamGroup::Advance() {
  CHECK(is_complete());
  const std::vector<absl::Span<const TopLogprob>> candidates(results_.begin(),
                                                             results_.end());
  search_.Advance(candidates);
  if (num_logprobs_ >= 0) {
    for (std::vector<TopLogprob>& result : results_) {
      result.resize(std::min<size_t>(result.size(), num_logprobs_));
    }
    told_.push_back(std::move(results_));
  }
  moves_.clear();
  std::vector<bool> is_taken(num_sequences_, false);
  for (const BeamSearch::Extension& beam : search_.running()) {
    const int32_t parent_idx = seq_of_[beam.parent];
    moves_.push_back({.seq_idx = is_taken[parent_idx] ? -1 : parent_idx,
                      .parent_idx = parent_idx,
                      .token = beam.token,
                      .is_sampled = beam.token == sampled_[beam.parent]});
    is_taken[parent_idx] = true;
  }
  int32_t next = 0;
  for (Move& move : moves_) {
    if (move.seq_idx >= 0) continue;
    while (is_taken[next]) ++next;
    is_taken[next] = true;
    move.seq_idx = next;
  }
  seq_of_.clear();
  for (const Move& move : moves_) seq_of_.push_back(move.seq_idx);
  results_.assign(num_running(), {});
  sampled_.assign(num_running(), 0);
  num_missing_ = num_running();
  return moves_;
}

void BeamGroup::AppendOutputs(RequestKey request,
                              std::vector<SequenceOutput>* outputs) const {
  CHECK(is_done());
  const absl::Span<const BeamSearch::Hypothesis> hypotheses =
      search_.hypotheses().subspan(0, num_returned_);
  for (const BeamSearch::Hypothesis& hypothesis : hypotheses) {
    const BeamSearch::Output found = search_.OutputOf(hypothesis);
    SequenceOutput& output = outputs->emplace_back();
    output.request = request;
    output.index = static_cast<int32_t>(&hypothesis - hypotheses.data());
    output.tokens.assign(found.tokens.begin(), found.tokens.end());
    output.finish_reason =
        hypothesis.stopped ? FinishReason::kStop : FinishReason::kLength;
    if (hypothesis.stopped) output.stop_token_id = found.tokens.back();
    if (num_logprobs_ >= 0) FillLogprobs(found, &output);
  }
}

void BeamGroup::FillLogprobs(const BeamSearch::Output& found,
                             SequenceOutput* output) const {
  for (size_t i = 0; i < found.tokens.size(); ++i) {
    SampledLogprobs& logprobs = output->logprobs.emplace_back();
    logprobs.sample_idx = static_cast<int32_t>(i);
    logprobs.logprob = found.logprobs[i];
    logprobs.rank = found.ranks[i] + 1;
    logprobs.top = told_[i][found.parents[i]];
  }
}

}  // namespace quire
