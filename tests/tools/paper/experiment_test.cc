// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/experiment.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ExperimentTest, AtTheKneeLatencyIsBelowTheLimitAndAboveItBeyond) {
  const auto experiment = MakeExperiment(Testbed(), "paged", "a100_40g_opt13b",
                                         {.lengths = {{100, 50}}});
  ASSERT_TRUE(experiment.ok()) << experiment.status();
  const auto knee = FindKnee(*experiment, 100);
  ASSERT_TRUE(knee.ok()) << knee.status();
  const auto alone = RunAt(*experiment, 1e-3, 1, false);
  const auto at = RunAt(*experiment, *knee, 100, false);
  const auto beyond = RunAt(*experiment, *knee * 1.05, 100, false);
  ASSERT_TRUE(alone.ok() && at.ok() && beyond.ok());
  const double limit = 5 * alone->normalized_latency.mean;
  EXPECT_LE(at->normalized_latency.mean, limit);
  EXPECT_GT(beyond->normalized_latency.mean, limit);
}

TEST(ExperimentTest, NamesMustBeKnown) {
  EXPECT_EQ(
      MakeExperiment(Testbed(), "no", "a100_40g_opt13b", {}).status().code(),
      absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeExperiment(Testbed(), "paged", "no", {}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(ExperimentTest, EachIsRunOnce) {
  std::vector<std::atomic<int>> counts(100);
  EXPECT_TRUE(ForEach(100, 3, [&](int idx) {
                ++counts[idx];
                return absl::OkStatus();
              }).ok());
  for (const auto& count : counts) EXPECT_EQ(count, 1);
}

TEST(ExperimentTest, AnErrorEndsTheRest) {
  EXPECT_EQ(ForEach(100, 2,
                    [](int idx) {
                      return idx == 7 ? absl::InternalError("seven")
                                      : absl::OkStatus();
                    })
                .message(),
            "seven");
}

}  // namespace
}  // namespace quire
