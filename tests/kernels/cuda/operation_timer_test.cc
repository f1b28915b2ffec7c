// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/operation_timer.h"

#include <string>
#include <vector>

#include "cuda_runtime.h"
#include "gtest/gtest.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

class OperationTimerTest : public testing::Test {
 protected:
  OperationTimerTest() {
    EXPECT_EQ(cudaStreamCreate(&stream_), cudaSuccess);
  }
  ~OperationTimerTest() override { cudaStreamDestroy(stream_); }

  // An operation of that many nanoseconds, at least.
  static void Run(const std::string& name, int64_t nanoseconds,
                  cudaStream_t stream, OperationTimer* timer) {
    timer->Begin(name);
    EXPECT_EQ(LaunchDelayCuda(nanoseconds, stream), cudaSuccess);
    timer->End();
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(OperationTimerTest, SumsWhatOperationsOfOneNameTook) {
  OperationTimer timer(stream_);
  // The second time with the events of the first.
  for (int turn = 0; turn < 2; ++turn) {
    Run("short", 100'000, stream_, &timer);
    Run("long", 2'000'000, stream_, &timer);
    Run("short", 100'000, stream_, &timer);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    timer.Collect();
    const std::vector<OperationTime> times = timer.Take();
    ASSERT_EQ(times.size(), 2);
    // The longest first. The device's two clocks tick alike within a tenth.
    EXPECT_EQ(times[0].name, "long");
    EXPECT_EQ(times[0].count, 1);
    EXPECT_GT(times[0].seconds, 0.9 * 2e-3);
    EXPECT_EQ(times[1].name, "short");
    EXPECT_EQ(times[1].count, 2);
    EXPECT_GT(times[1].seconds, 0.9 * 2e-4);
    EXPECT_TRUE(timer.Take().empty());
  }
}

TEST_F(OperationTimerTest, CollectsSeveralTimesBeforeItIsAsked) {
  OperationTimer timer(stream_);
  for (int step = 0; step < 3; ++step) {
    Run("one", 1'000, stream_, &timer);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    timer.Collect();
  }
  timer.Collect();  // nothing since
  const std::vector<OperationTime> times = timer.Take();
  ASSERT_EQ(times.size(), 1);
  EXPECT_EQ(times[0].count, 3);
}

}  // namespace
}  // namespace quire
