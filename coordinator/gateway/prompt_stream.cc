// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/prompt_stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/gateway/token_logprobs.h"
#include "glog/logging.h"

namespace quire {

PromptStream::PromptStream(const Tokenizer* tokenizer,
                           std::vector<TokenId> prompt,
                           const PromptWishes& wishes)
    : prompt_(std::move(prompt)),
      wishes_(wishes),
      decoder_(tokenizer, wishes.skip_special_tokens) {
  CHECK(!prompt_.empty());
}

int64_t PromptStream::num_known() const {
  return wishes_.logprobs ? static_cast<int64_t>(logprobs_.size()) + 1
                          : static_cast<int64_t>(prompt_.size());
}

absl::Status PromptStream::Append(std::vector<SampledLogprobs> logprobs) {
  if (logprobs_.size() + logprobs.size() + 1 > prompt_.size()) {
    return absl::InternalError(absl::StrCat(
        "log probabilities of ", logprobs_.size() + logprobs.size() + 1,
        " prompt tokens of ", prompt_.size()));
  }
  logprobs_.insert(logprobs_.end(), std::make_move_iterator(logprobs.begin()),
                   std::make_move_iterator(logprobs.end()));
  return absl::OkStatus();
}

absl::StatusOr<v1::Prompt> PromptStream::TakeChunk() {
  v1::Prompt chunk;
  const int64_t end = std::min(num_known(), num_sent_ + kMaxChunkTokens);
  chunk.set_token_offset(num_sent_);
  for (int64_t i = num_sent_; i < end; ++i) {
    chunk.add_token_ids(prompt_[i]);
    if (!wishes_.logprobs) continue;
    v1::TokenLogprobs* logprobs = chunk.add_logprobs();
    if (i == 0) {
      logprobs->set_token_id(prompt_[0]);
    } else {
      FillTokenLogprobs(prompt_[i], std::exchange(logprobs_[i - 1], {}),
                        logprobs);
    }
  }
  if (wishes_.text) {
    QUIRE_ASSIGN_OR_RETURN(std::string text,
                           decoder_.Append(absl::MakeConstSpan(prompt_).subspan(
                               num_sent_, end - num_sent_)));
    if (end == static_cast<int64_t>(prompt_.size())) {
      QUIRE_ASSIGN_OR_RETURN(const std::string rest, decoder_.Flush());
      text += rest;
    }
    chunk.set_text(std::move(text));
  }
  num_sent_ = end;
  return chunk;
}

}  // namespace quire
