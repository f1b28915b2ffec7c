// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/generation.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace quire {
namespace {

nlohmann::ordered_json ToJson(const v1::TokenLogprobs& logprobs) {
  nlohmann::ordered_json json = {{"token_id", logprobs.token_id()},
                                 {"logprob", logprobs.logprob()},
                                 {"rank", logprobs.rank()},
                                 {"top", nlohmann::ordered_json::array()}};
  for (const v1::TopLogprob& top : logprobs.top()) {
    json["top"].push_back(
        {{"token_id", top.token_id()}, {"logprob", top.logprob()}});
  }
  return json;
}

}  // namespace

absl::Status Generation::Add(const v1::GenerateResponse& response,
                             absl::Time now) {
  request_id_ = response.request_id();
  if (response.has_complete()) {
    is_complete_ = true;
    complete_ = response.complete();
  }
  if (response.has_prompt()) {
    if (!prompt_.has_value()) prompt_.emplace();
    const std::string text = prompt_->text() + response.prompt().text();
    prompt_->MergeFrom(response.prompt());  // lists are joined
    prompt_->set_text(text);
  }
  if (!response.has_chunk() || response.chunk().index() != index_) {
    return absl::OkStatus();
  }
  const v1::Chunk& chunk = response.chunk();
  if (chunk.token_offset() != token_ids_.size()) {
    return absl::DataLossError(absl::StrCat(
        "the server sent tokens from offset ", chunk.token_offset(), " after ",
        token_ids_.size(), " tokens"));
  }
  if (chunk.token_ids_size() > 0) {
    if (token_ids_.empty()) first_token_ = now;
    last_token_ = now;
  }
  token_ids_.insert(token_ids_.end(), chunk.token_ids().begin(),
                    chunk.token_ids().end());
  logprobs_.insert(logprobs_.end(), chunk.logprobs().begin(),
                   chunk.logprobs().end());
  text_ += chunk.text();
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    finish_reason_ = chunk.finish_reason();
  }
  return absl::OkStatus();
}

absl::Status Generation::CheckComplete() const {
  if (is_complete_) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the stream ended after ", token_ids_.size(),
                   " tokens without saying that it was complete"));
}

double Generation::TokensPerSecond() const {
  // The first token measures the prompt, the others the generation.
  if (token_ids_.size() < 2 || last_token_ <= first_token_) return 0;
  return (token_ids_.size() - 1) /
         absl::ToDoubleSeconds(last_token_ - first_token_);
}

std::optional<double> Generation::CumulativeLogprob() const {
  if (logprobs_.empty()) return std::nullopt;
  double sum = 0;
  for (const v1::TokenLogprobs& logprobs : logprobs_) sum += logprobs.logprob();
  return sum;
}

std::string Generation::FinishReason() const {
  std::string name = v1::FinishReason_Name(finish_reason_);
  return absl::AsciiStrToLower(absl::StripPrefix(name, "FINISH_REASON_"));
}

nlohmann::ordered_json Generation::ToJson() const {
  nlohmann::ordered_json json = {
      {"request_id", request_id_},
      {"text", text_},
      {"token_ids", token_ids_},
      {"finish_reason", FinishReason()},
      {"seed", complete_.seed()},
      {"usage",
       {{"prompt_tokens", complete_.usage().prompt_tokens()},
        {"output_tokens", complete_.usage().output_tokens()},
        {"cached_tokens", complete_.usage().cached_tokens()}}},
  };
  if (!token_ids_.empty()) {
    json["ttft_ms"] = absl::ToDoubleMilliseconds(first_token_ - start_);
    json["e2el_ms"] = absl::ToDoubleMilliseconds(last_token_ - start_);
  }
  if (prompt_.has_value()) {
    nlohmann::ordered_json& prompt = json["prompt"];
    prompt["text"] = prompt_->text();
    prompt["token_ids"] = prompt_->token_ids();
    for (const v1::TokenLogprobs& logprobs : prompt_->logprobs()) {
      // The first token's say nothing.
      prompt["logprobs"].push_back(logprobs.rank() == 0
                                       ? nlohmann::ordered_json()
                                       : quire::ToJson(logprobs));
    }
  }
  if (const std::optional<double> sum = CumulativeLogprob()) {
    json["cumulative_logprob"] = *sum;
    for (const v1::TokenLogprobs& logprobs : logprobs_) {
      json["logprobs"].push_back(quire::ToJson(logprobs));
    }
  }
  return json;
}

std::string Generation::Summary() const {
  std::string summary = absl::StrCat("[", token_ids_.size(), " tokens");
  if (const double rate = TokensPerSecond(); rate > 0) {
    absl::StrAppendFormat(&summary, ", %.1f tokens/s", rate);
  }
  if (!token_ids_.empty()) {
    absl::StrAppendFormat(&summary, ", first after %.0f ms",
                          absl::ToDoubleMilliseconds(first_token_ - start_));
  }
  return absl::StrCat(summary, ", finish: ", FinishReason(), "]");
}

}  // namespace quire
