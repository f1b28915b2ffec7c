// SPDX-License-Identifier: Apache-2.0
//
// One request's stream put together again, with its timing.
#ifndef TOOLS_QUIRE_GENERATION_H_
#define TOOLS_QUIRE_GENERATION_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "proto/inference.pb.h"

namespace quire {

// Copyable value. Holds one sequence of the request.
class Generation {
 public:
  explicit Generation(absl::Time start, uint32_t index = 0)
      : start_(start), index_(index) {}

  // Takes the next message; chunks of other sequences are none of its. DataLoss
  // if a token was lost or came twice.
  absl::Status Add(const v1::GenerateResponse& response, absl::Time now);

  // DataLoss if the stream ended without saying so.
  absl::Status CheckComplete() const;

  const std::string& text() const { return text_; }
  // Of the prompt, as far as it came back.
  std::string prompt_text() const { return prompt_ ? prompt_->text() : ""; }
  // Sum of its tokens' log probabilities; none unless the server told them.
  std::optional<double> CumulativeLogprob() const;
  // "stop", "length" ...
  std::string FinishReason() const;

  // Text, token ids, log probabilities and their sum if there are any, usage,
  // timing.
  nlohmann::ordered_json ToJson() const;
  // "[42 tokens, 31.2 tokens/s, first after 85 ms, stopped by stop]"
  std::string Summary() const;

 private:
  double TokensPerSecond() const;

  absl::Time start_;
  uint32_t index_;
  absl::Time first_token_ = absl::InfinitePast();
  absl::Time last_token_ = absl::InfinitePast();
  std::string request_id_;
  std::string text_;
  std::vector<uint32_t> token_ids_;
  std::vector<v1::TokenLogprobs> logprobs_;
  std::optional<v1::Prompt> prompt_;  // all of it that came
  v1::FinishReason finish_reason_ = v1::FINISH_REASON_UNSPECIFIED;
  bool is_complete_ = false;
  v1::Complete complete_;
};

}  // namespace quire

#endif  // TOOLS_QUIRE_GENERATION_H_
