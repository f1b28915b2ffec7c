// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/answer_streams.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "coordinator/gateway/best_streams.h"

namespace quire {

bool TellsPrompt(const SamplingParams& sampling) {
  return sampling.echo || sampling.slot.num_prompt_logprobs >= 0;
}

AnswerStreams::AnswerStreams(const Tokenizer* tokenizer, const Clock* clock,
                             RequestMetrics* metrics, absl::Time arrival)
    : tokenizer_(tokenizer),
      clock_(clock),
      metrics_(metrics),
      arrival_(arrival) {}

absl::Status AnswerStreams::Open(
    const SamplingParams& sampling,
    const std::vector<TokenId>& shown_special_tokens) {
  const bool is_ranked = IsRankedByStreams(sampling);
  const int32_t num_streams = is_ranked ? sampling.best_of : sampling.n;
  std::vector<SequenceStream> streams;
  for (int32_t index = 0; index < num_streams; ++index) {
    QUIRE_ASSIGN_OR_RETURN(SequenceStream stream,
                           SequenceStream::Create(tokenizer_, sampling, index,
                                                  shown_special_tokens));
    streams.push_back(std::move(stream));
    if (!is_ranked) answer_.push_back(index);
  }
  streams_ = std::move(streams);
  last_tokens_.assign(streams_.size(), absl::InfinitePast());
  num_answers_ = sampling.n;
  return absl::OkStatus();
}

void AnswerStreams::SetPrompt(const SamplingParams& sampling,
                              const std::vector<TokenId>& prompt) {
  num_prompt_tokens_ = static_cast<int64_t>(prompt.size());
  if (!TellsPrompt(sampling)) return;
  prompt_.emplace(
      tokenizer_, prompt,
      PromptWishes{sampling.echo, sampling.slot.num_prompt_logprobs >= 0,
                   sampling.skip_special_tokens});
}

absl::Status AnswerStreams::AppendPrompt(
    std::vector<SampledLogprobs> logprobs) {
  if (!prompt_.has_value()) return absl::OkStatus();
  return prompt_->Append(std::move(logprobs));
}

absl::Status AnswerStreams::Append(const SequenceOutput& output) {
  SequenceStream& stream = streams_[output.index];
  num_cached_tokens_ = std::max(num_cached_tokens_, output.num_cached_tokens);
  const int64_t num_before = stream.num_tokens();
  QUIRE_RETURN_IF_ERROR(stream.Append(output));
  if (!answer_.empty()) {
    NoteTokens(output.index, stream.num_tokens() - num_before);
  }
  return absl::OkStatus();
}

bool AnswerStreams::is_finished() const {
  return std::all_of(
      streams_.begin(), streams_.end(),
      [](const SequenceStream& stream) { return stream.is_finished(); });
}

void AnswerStreams::NoteTokens(size_t stream, int64_t num_tokens) {
  if (num_tokens == 0) return;
  const absl::Time now = clock_->Now();
  num_tokens_ += num_tokens;
  if (num_tokens_ == num_tokens) {
    first_token_ = now;
    metrics_->ObserveFirstToken(now - arrival_);
  }
  absl::Time& last_token = last_tokens_[stream];
  // The first tokens of a sequence follow on no other of its own.
  if (last_token != absl::InfinitePast()) {
    metrics_->ObserveTokens(now - last_token, num_tokens);
  }
  last_token = now;
  last_token_ = now;
}

void AnswerStreams::TakeBest() {
  answer_ = BestStreams(streams_, num_answers_);
  for (size_t index = 0; index < answer_.size(); ++index) {
    SequenceStream& stream = streams_[answer_[index]];
    stream.set_index(static_cast<int32_t>(index));
    NoteTokens(answer_[index], stream.num_tokens());
  }
}

absl::StatusOr<bool> AnswerStreams::TakeNext(v1::GenerateResponse* response) {
  if (prompt_.has_value() && prompt_->has_chunk()) {
    QUIRE_ASSIGN_OR_RETURN(*response->mutable_prompt(), prompt_->TakeChunk());
    return true;
  }
  if (answer_.empty() && is_finished()) TakeBest();
  // In turn, so that none of them has to wait for a talkative sibling.
  for (size_t i = 0; i < answer_.size(); ++i) {
    SequenceStream& stream = streams_[answer_[next_]];
    next_ = (next_ + 1) % answer_.size();
    if (!stream.has_chunk()) continue;
    *response->mutable_chunk() = stream.TakeChunk();
    return true;
  }
  return false;
}

v1::Usage AnswerStreams::usage() const {
  v1::Usage usage;
  usage.set_prompt_tokens(static_cast<uint32_t>(num_prompt_tokens_));
  usage.set_output_tokens(static_cast<uint32_t>(num_tokens_));
  usage.set_cached_tokens(static_cast<uint32_t>(num_cached_tokens_));
  return usage;
}

FinishReason AnswerStreams::finish_reason() const {
  return streams_.empty() ? FinishReason::kNone : streams_[0].finish_reason();
}

void AnswerStreams::Describe(RequestMetrics::Outcome* outcome) const {
  outcome->num_prompt_tokens = num_prompt_tokens_;
  outcome->num_output_tokens = num_tokens_;
  for (const size_t stream : answer_) {
    outcome->num_longest_tokens =
        std::max(outcome->num_longest_tokens, streams_[stream].num_tokens());
  }
  if (num_tokens_ > 1) outcome->decode = last_token_ - first_token_;
}

}  // namespace quire
