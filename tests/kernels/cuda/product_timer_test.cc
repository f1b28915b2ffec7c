// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/product_timer.h"

#include <cstdint>
#include <limits>
#include <memory>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

constexpr float kPatient = std::numeric_limits<float>::infinity();

class ProductTimerTest : public testing::Test {
 protected:
  void SetUp() override {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             cudaSuccess);
    auto timer = ProductTimer::Create(stream_);
    ASSERT_TRUE(timer.ok()) << timer.status();
    timer_ = *std::move(timer);
  }
  void TearDown() override {
    timer_.reset();
    cudaStreamDestroy(stream_);
  }

  absl::Status Delay(int64_t nanoseconds) {
    ++num_runs_;
    return CudaStatus(LaunchDelayCuda(nanoseconds, stream_), "delay");
  }

  cudaStream_t stream_ = nullptr;
  std::unique_ptr<ProductTimer> timer_;
  int num_runs_ = 0;
};

TEST_F(ProductTimerTest, TellsTheMiddleOfSeveralRunsAfterOneToLoad) {
  // The first run and two others take far longer.
  const auto ms = timer_->Time(
      [&] {
        const bool is_odd = num_runs_ == 0 || num_runs_ == 2 || num_runs_ == 5;
        return Delay(is_odd ? 20'000'000 : 1'000'000);
      },
      kPatient);
  ASSERT_TRUE(ms.ok()) << ms.status();
  EXPECT_GE(num_runs_, 6);
  EXPECT_GE(*ms, 1.0f);  // a delay is never shorter
  EXPECT_LT(*ms, 20.0f);
}

TEST_F(ProductTimerTest, GivesUpWhatIsHopelessAfterOneRun) {
  const auto ms = timer_->Time([&] { return Delay(1'000'000); }, 0.5f);
  ASSERT_TRUE(ms.ok()) << ms.status();
  EXPECT_GE(*ms, 1.0f);
  EXPECT_EQ(num_runs_, 2);
}

TEST_F(ProductTimerTest, FailsAsWhatItTimes) {
  const auto ms =
      timer_->Time([] { return absl::UnimplementedError("none"); }, kPatient);
  EXPECT_EQ(ms.status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(ProductTimerTest, KnowsWhetherAGraphIsCaptured) {
  EXPECT_FALSE(ProductTimer::IsCapturing(stream_));
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  EXPECT_TRUE(ProductTimer::IsCapturing(stream_));
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_FALSE(ProductTimer::IsCapturing(stream_));
}

TEST(ProductTrialTest, OnlyWhatIsAddedToIsElsewhere) {
  char y[16];
  PlainGemmParams params = {};
  params.y = y;
  params.m = 3;
  params.y_stride = 8;
  params.dtype = params.y_dtype = DType::kBf16;
  std::unique_ptr<DeviceBuffer> elsewhere;
  auto trial = TrialOf(params, &elsewhere);
  ASSERT_TRUE(trial.ok()) << trial.status();
  EXPECT_EQ(trial->y, y);
  EXPECT_EQ(elsewhere, nullptr);
  params.adds = true;
  trial = TrialOf(params, &elsewhere);
  ASSERT_TRUE(trial.ok()) << trial.status();
  ASSERT_NE(elsewhere, nullptr);
  EXPECT_EQ(trial->y, elsewhere->data());
  EXPECT_EQ(elsewhere->bytes(), 3 * 8 * 2);
}

}  // namespace
}  // namespace quire
