// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/engine/served_load.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {

void ServedLoad::Submit(EngineRequest request) {
  keys_.push_back(engine_->MustSubmit(request));
  requests_.push_back(std::move(request));
}

void ServedLoad::SubmitAtRandom(int count, std::mt19937& random) {
  std::vector<RequestKey> cancelled;
  for (int i = 0; i < count; ++i) {
    const int32_t num_prompt_tokens = 1 + random() % 120;
    const int32_t max_tokens = 1 + random() % 60;
    EngineRequest request =
        MakeRequest(absl::StrCat("r", i), num_prompt_tokens, max_tokens, i);
    const auto key = engine_->Submit(request);
    if (!key.ok()) {
      EXPECT_EQ(key.status().code(), absl::StatusCode::kInvalidArgument);
    } else if (random() % 8 == 0) {
      cancelled.push_back(*key);
    } else {
      keys_.push_back(*key);
      requests_.push_back(std::move(request));
    }
    engine_->RunUntilIdle(/*max_steps=*/random() % 6);
    if (!cancelled.empty() && random() % 2 == 0) {
      engine_->Finish(cancelled.back(), FinishReason::kCancelled);
      cancelled.pop_back();
    }
  }
  for (RequestKey key : cancelled) {
    engine_->Finish(key, FinishReason::kCancelled);
  }
  engine_->RunUntilIdle();
}

void ServedLoad::ExpectServed() const {
  for (size_t idx = 0; idx < keys_.size(); ++idx) {
    EXPECT_EQ(engine_->Heard(keys_[idx]).tokens,
              SimulatedStream(requests_[idx].prompt, requests_[idx].sampling))
        << "request " << idx;
  }
  engine_->ExpectClean();
}

}  // namespace quire
