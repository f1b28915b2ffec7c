// SPDX-License-Identifier: Apache-2.0
#include "worker/service/worker_service.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/service/served_worker.h"

namespace quire {
namespace {

using WorkerServiceTest = ServedWorker;

TEST_F(WorkerServiceTest, RunsPlansThatComeAheadOfTheirResults) {
  std::vector<std::string> phases;
  ASSERT_TRUE(Load(LoadRequest(), &phases).ok());
  ASSERT_GE(phases.size(), 2);  // a waiting message is overtaken by the next
  EXPECT_EQ(phases.front(), "collective");
  EXPECT_EQ(phases.back(), "done");
  v1::ProfileResponse profile;
  ASSERT_TRUE(Profile(0.75, Now(), &profile).ok());
  EXPECT_EQ(profile.kv_bytes(), 1 << 28);
  EXPECT_EQ(profile.block_bytes(), 32);
  EXPECT_FALSE(core_.is_ready());
  ASSERT_TRUE(AllocateKv(16).ok());
  EXPECT_TRUE(core_.is_ready());

  std::vector<StepPlan> plans;
  for (uint64_t step = 1; step <= 9; ++step) plans.push_back(Plan(step));
  std::vector<StepResult> results;
  const grpc::Status status = Run(plans, &results);
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(results.size(), 9);
  std::vector<TokenId> tokens = {1, 2, 3};
  for (uint64_t step = 1; step <= 9; ++step) {
    const auto logits = FakeModel::LogitsAfter(tokens, kServedVocab);
    const TokenId expected = static_cast<TokenId>(
        std::max_element(logits.begin(), logits.end()) - logits.begin());
    EXPECT_EQ(results[step - 1].identity, plans[step - 1].identity);
    ASSERT_EQ(results[step - 1].tokens, std::vector<TokenId>{expected});
    tokens.push_back(expected);
  }
  EXPECT_EQ(core_.last_step(), StepId(9));
}

TEST_F(WorkerServiceTest, CommandsOutOfOrderAreRefused) {
  v1::ProfileResponse profile;
  EXPECT_EQ(Profile(0.5, Now(), &profile).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(AllocateKv(16).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  std::vector<StepResult> results;
  EXPECT_EQ(Run({Plan(1)}, &results).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  GetReady();
  EXPECT_EQ(Load(LoadRequest()).error_message(), "a model is loaded already");
  EXPECT_EQ(Profile(1.5, Now(), &profile).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Profile(0.5, Now(3, 6), &profile).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(AllocateKv(16, Now(2, 7)).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(AllocateKv(1u << 31).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace quire
