// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/product_timer.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

// Nanoseconds, far apart, so that no disturbance makes the longer one look
// shorter.
constexpr int64_t kShort = 200'000, kLong = 5'000'000;

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

  // `nanoseconds` says how long the run of a number, from 0 on, takes.
  ProductTimer::Trial Delay(const std::function<int64_t(int)>& nanoseconds,
                            float allowance = 1.0f) {
    const size_t trial = num_runs_.size();
    num_runs_.push_back(0);
    return {[this, trial, nanoseconds] {
              const int64_t delay = nanoseconds(num_runs_[trial]++);
              return CudaStatus(LaunchDelayCuda(delay, stream_), "delay");
            },
            allowance};
  }
  ProductTimer::Trial Delay(int64_t nanoseconds, float allowance = 1.0f) {
    return Delay([=](int) { return nanoseconds; }, allowance);
  }

  cudaStream_t stream_ = nullptr;
  std::unique_ptr<ProductTimer> timer_;
  std::vector<int> num_runs_;  // of each trial
};

TEST_F(ProductTimerTest, MediansDecideWhateverDisturbsSomeRuns) {
  const auto mostly_long = [](int run) {
    return run <= 1 || run % 3 == 0 ? kLong : 4 * kLong;
  };
  const auto mostly_short = [](int run) {
    return run % 3 == 0 ? 4 * kLong : kLong - kShort;
  };
  const auto fastest = timer_->FastestOf(
      {Delay(mostly_long), Delay(mostly_short), Delay(mostly_long)});
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  EXPECT_EQ(*fastest, 1);
  EXPECT_GE(num_runs_[1], 7);
}

TEST_F(ProductTimerTest, AnAllowanceIsGranted) {
  const int64_t kLonger = kLong * 1.5;
  const auto fastest =
      timer_->FastestOf({Delay(kLong), Delay(kLonger, /*allowance=*/3)});
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  EXPECT_EQ(*fastest, 1);
}

TEST_F(ProductTimerTest, WhatIsHopelessRunsTwiceAlone) {
  const auto fastest = timer_->FastestOf(
      {Delay(kLong), Delay(kShort), Delay(kLong), Delay(kShort)});
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  EXPECT_EQ(*fastest % 2, 1);
  EXPECT_EQ(num_runs_[0], 2);
  EXPECT_GT(num_runs_[1], 2);
  EXPECT_EQ(num_runs_[2], 2);
}

TEST_F(ProductTimerTest, WhatThereIsNotIsPassedOver) {
  const ProductTimer::Trial none = {
      [] { return absl::UnimplementedError("none"); }};
  const auto fastest = timer_->FastestOf({none, Delay(kShort), none});
  ASSERT_TRUE(fastest.ok()) << fastest.status();
  EXPECT_EQ(*fastest, 1);
  EXPECT_EQ(timer_->FastestOf({none, none}).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(ProductTimerTest, FailsAsWhatItTimes) {
  const auto fastest = timer_->FastestOf(
      {Delay(kShort), {[] { return absl::ResourceExhaustedError("full"); }}});
  EXPECT_EQ(fastest.status().code(), absl::StatusCode::kResourceExhausted);
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
