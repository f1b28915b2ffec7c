// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/sequence_stream.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "coordinator/gateway/token_logprobs.h"

namespace quire {
namespace {

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<SequenceStream> SequenceStream::Create(
    const Tokenizer* tokenizer, const SamplingParams& sampling, int32_t index,
    std::vector<TokenId> shown_special_tokens) {
  QUIRE_ASSIGN_OR_RETURN(
      StopStringMatcher matcher,
      StopStringMatcher::Create(sampling.stop,
                                sampling.include_stop_str_in_output));
  return SequenceStream(tokenizer, sampling, index, std::move(matcher),
                        std::move(shown_special_tokens));
}

SequenceStream::SequenceStream(const Tokenizer* tokenizer,
                               const SamplingParams& sampling, int32_t index,
                               StopStringMatcher matcher,
                               std::vector<TokenId> shown_special_tokens)
    : tokenizer_(tokenizer),
      index_(index),
      skip_special_tokens_(sampling.skip_special_tokens),
      shown_special_tokens_(std::move(shown_special_tokens)),
      decoder_(tokenizer, sampling.skip_special_tokens),
      matcher_(std::move(matcher)),
      wants_logprobs_(sampling.slot.num_logprobs >= 0),
      include_stop_(sampling.include_stop_str_in_output) {}

absl::Status SequenceStream::Append(const SequenceOutput& output) {
  if (is_finished()) return absl::OkStatus();
  if (output.token_offset != num_tokens_) {
    return absl::InternalError(absl::StrCat("output continues at token ",
                                            output.token_offset, "; token ",
                                            num_tokens_, " was due"));
  }
  for (size_t i = 0; i < output.tokens.size() && !is_finished(); ++i) {
    AppendToken(output, i);
    const bool is_stop_token = i + 1 == output.tokens.size() &&
                               output.stop_token_id >= 0 &&
                               output.tokens[i] == output.stop_token_id;
    // As in vLLM: the token that stops is reported, its text is not.
    if (is_stop_token && !include_stop_) continue;
    QUIRE_ASSIGN_OR_RETURN(const std::string text, Decode(output.tokens[i]));
    AppendText(matcher_.Append(text, num_tokens_ - 1));
  }
  if (is_finished() || output.finish_reason == FinishReason::kNone) {
    return absl::OkStatus();
  }
  QUIRE_ASSIGN_OR_RETURN(const std::string rest, decoder_.Flush());
  AppendText(matcher_.Append(rest, num_tokens_ - 1));
  if (is_finished()) return absl::OkStatus();
  chunk_.mutable_text()->append(matcher_.Flush());
  if (output.stop_token_id >= 0) {
    chunk_.set_stop_token_id(output.stop_token_id);
  }
  Finish(output.finish_reason);
  return absl::OkStatus();
}

absl::StatusOr<std::string> SequenceStream::Decode(TokenId token) {
  const bool is_shown =
      skip_special_tokens_ &&
      std::find(shown_special_tokens_.begin(), shown_special_tokens_.end(),
                token) != shown_special_tokens_.end();
  if (!is_shown) return decoder_.Append({&token, 1});
  // What follows decodes as a text of its own.
  QUIRE_ASSIGN_OR_RETURN(std::string text, decoder_.Flush());
  decoder_ = StreamDecoder(tokenizer_, skip_special_tokens_);
  QUIRE_ASSIGN_OR_RETURN(const std::string piece, tokenizer_->IdToPiece(token));
  return text + piece;
}

void SequenceStream::AppendToken(const SequenceOutput& output,
                                 size_t token_idx) {
  if (chunk_.token_ids().empty()) chunk_.set_token_offset(num_tokens_);
  chunk_.add_token_ids(output.tokens[token_idx]);
  ++num_tokens_;
  has_chunk_ = true;
  if (output.logprobs.empty()) return;
  // One per token, in order; the engine's contract.
  const auto sampled =
      std::find_if(output.logprobs.begin(), output.logprobs.end(),
                   [&](const SampledLogprobs& each) {
                     return each.sample_idx == static_cast<int32_t>(token_idx);
                   });
  if (sampled == output.logprobs.end()) return;
  cumulative_logprob_ += sampled->logprob;
  if (!wants_logprobs_) return;
  FillTokenLogprobs(output.tokens[token_idx], *sampled, chunk_.add_logprobs());
}

void SequenceStream::AppendText(const StopStringMatcher::Output& output) {
  chunk_.mutable_text()->append(output.text);
  if (!output.match.has_value()) return;
  chunk_.set_stop_string(output.match->stop_string);
  Finish(FinishReason::kStop);
}

void SequenceStream::Finish(FinishReason reason) {
  finish_reason_ = reason;
  if (chunk_.token_ids().empty()) chunk_.set_token_offset(num_tokens_);
  chunk_.set_finish_reason(ToProto(reason));
  has_chunk_ = true;
}

v1::Chunk SequenceStream::TakeChunk() {
  has_chunk_ = false;
  chunk_.set_index(static_cast<uint32_t>(index_));
  return std::exchange(chunk_, v1::Chunk());
}

}  // namespace quire
