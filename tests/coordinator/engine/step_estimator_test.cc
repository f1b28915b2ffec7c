// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/step_estimator.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(StepEstimatorTest, KnowsNothingBeforeItHasMeasured) {
  StepEstimator estimator;
  for (int step = 1; step < kMinStepSamples; ++step) {
    estimator.Record(4, 4, 1000);
    estimator.Record(1, 100, 5000);
  }
  estimator.Record(4, 4, 0);  // no measurement
  EXPECT_EQ(estimator.LeastTime(100000, 100000), absl::ZeroDuration());
}

TEST(StepEstimatorTest, APromptCostsItsTokensAndEachOutputAStep) {
  StepEstimator estimator;
  for (int step = 0; step < kMinStepSamples; ++step) {
    estimator.Record(4, 4, 1000);
    estimator.Record(1, 100, 5000);
  }
  EXPECT_EQ(estimator.LeastTime(1000, 1), absl::Milliseconds(50));
  EXPECT_EQ(estimator.LeastTime(1000, 11), absl::Milliseconds(60));
  // No step is faster than a decode.
  EXPECT_EQ(estimator.LeastTime(1, 1), absl::Milliseconds(1));
  EXPECT_EQ(estimator.decode_step_us(), 1000);
  EXPECT_EQ(estimator.prefill_tokens_per_s(), 20000);
}

TEST(StepEstimatorTest, FollowsTheFastEnd) {
  StepEstimator estimator;
  for (int step = 0; step < 100; ++step) {
    estimator.Record(4, 4, step % 4 == 0 ? 1000 : 9000);
  }
  EXPECT_LT(estimator.decode_step_us(), 1200);
  // And forgets it when all have become slow.
  for (int step = 0; step < 2000; ++step) estimator.Record(4, 4, 9000);
  EXPECT_GT(estimator.decode_step_us(), 8900);
}

}  // namespace
}  // namespace quire
