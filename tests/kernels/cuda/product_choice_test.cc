// SPDX-License-Identifier: Apache-2.0
//
// What is timed, remembered and kept; products are delays of known lengths.
#include "kernels/cuda/product_choice.h"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/own_product.h"

namespace quire {
namespace {

constexpr ProductKernel kLibrary = ProductKernel::kLibrary;
constexpr ProductKernel kTiles = ProductKernel::kTiles;
constexpr ProductKernel kPanels = ProductKernel::kPanels;
constexpr ProductKernel kMixedTiles = ProductKernel::kMixedTiles;

// Far apart, so that no disturbance makes the longer one look shorter.
constexpr int64_t kShort = 20'000, kLong = 2'000'000;  // nanoseconds

class ProductChoiceTest : public testing::Test {
 protected:
  void SetUp() override {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             cudaSuccess);
    CHECK_EQ(cudaMalloc(&y_, 1 << 20), cudaSuccess);
  }
  void TearDown() override {
    cudaFree(y_);
    cudaStreamDestroy(stream_);
    std::remove(path_.c_str());
  }

  using Run = std::function<absl::Status(const PlainGemmParams&)>;

  static bool Always(const PlainGemmParams&) { return true; }

  // A product that takes so long.
  Run Delay(int64_t nanoseconds) {
    return [this, nanoseconds](const PlainGemmParams& params) {
      ++num_runs_;
      last_ = params;
      return CudaStatus(LaunchDelayCuda(nanoseconds, stream_), "delay");
    };
  }

  ProductChoice Between(const Run& library, const Run& tiles,
                        const LtGemmOptions& options = {},
                        const std::string& signature = "a_gpu/1/bucket") {
    return ProductChoice(
        options, signature, stream_,
        {{kLibrary, Always, library}, {kTiles, Always, tiles}});
  }
  ProductChoice Between(int64_t library, int64_t tiles,
                        const LtGemmOptions& options = {},
                        const std::string& signature = "a_gpu/1/bucket") {
    return Between(Delay(library), Delay(tiles), options, signature);
  }

  PlainGemmParams ProductOf(int64_t m) const {
    PlainGemmParams params = {};
    params.y = y_;
    params.m = m;
    params.n = params.y_stride = 64;
    params.k = params.x_stride = 128;
    params.dtype = params.y_dtype = DType::kBf16;
    return params;
  }

  ProductKernel Ask(ProductChoice* choice, int64_t m) {
    const auto kernel = choice->FastestOf(ProductOf(m));
    CHECK(kernel.ok()) << kernel.status();
    return *kernel;
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/product_choice_", getpid());
  cudaStream_t stream_ = nullptr;
  void* y_ = nullptr;
  int num_runs_ = 0;
  PlainGemmParams last_ = {};
};

TEST_F(ProductChoiceTest, TheFasterOneIsChosen) {
  ProductChoice slow_library = Between(kLong, kShort);
  EXPECT_EQ(Ask(&slow_library, 200), kTiles);
  ProductChoice slow_tiles = Between(kShort, kLong);
  EXPECT_EQ(Ask(&slow_tiles, 200), kLibrary);
}

TEST_F(ProductChoiceTest, ABucketOfRowsIsTimedOnce) {
  ProductChoice choice = Between(kLong, kShort);
  EXPECT_EQ(Ask(&choice, 320), kTiles);
  const int num_runs = num_runs_;
  EXPECT_GT(num_runs, 0);
  EXPECT_EQ(Ask(&choice, 320), kTiles);
  EXPECT_EQ(Ask(&choice, 300), kTiles);
  EXPECT_EQ(num_runs_, num_runs);
  EXPECT_EQ(Ask(&choice, 321), kTiles);
  EXPECT_GT(num_runs_, num_runs);
}

TEST_F(ProductChoiceTest, ChoicesAreKeptForTheSameDeviceAndLibrary) {
  const LtGemmOptions options = {.cache_path = path_};
  ProductChoice first = Between(kLong, kShort, options);
  EXPECT_EQ(Ask(&first, 200), kTiles);
  EXPECT_EQ(Ask(&first, 500), kTiles);
  const int num_runs = num_runs_;
  // It would choose otherwise.
  ProductChoice second = Between(kShort, kLong, options);
  EXPECT_EQ(Ask(&second, 200), kTiles);
  EXPECT_EQ(Ask(&second, 500), kTiles);
  EXPECT_EQ(num_runs_, num_runs);
  ProductChoice other = Between(kShort, kLong, options, "a_gpu/2/bucket");
  EXPECT_EQ(Ask(&other, 200), kLibrary);
  EXPECT_GT(num_runs_, num_runs);
}

TEST_F(ProductChoiceTest, NothingIsTimedWhereItMayNotBe) {
  ProductChoice untuned = Between(kLong, kShort, {.is_tuned = false});
  EXPECT_EQ(Ask(&untuned, 200), kLibrary);
  ProductChoice choice = Between(kLong, kShort);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  EXPECT_EQ(Ask(&choice, 200), kLibrary);
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_EQ(num_runs_, 0);
  EXPECT_EQ(Ask(&choice, 200), kTiles);  // that was no choice
}

TEST_F(ProductChoiceTest, OneOfThreeIsChosen) {
  ProductChoice choice({}, "a_gpu/1/bucket", stream_,
                       {{kLibrary, Always, Delay(2 * kLong)},
                        {kTiles, Always, Delay(kLong)},
                        {kPanels, Always, Delay(kShort)}});
  EXPECT_EQ(Ask(&choice, 200), kPanels);
}

TEST_F(ProductChoiceTest, LessPowerIsWorthALittleMoreTime) {
  const int64_t kLonger = kLong * 1.02, kMuchLonger = kLong * 1.15;
  for (const auto& [time, chosen] :
       {std::pair{kLonger, kMixedTiles}, std::pair{kMuchLonger, kTiles}}) {
    ProductChoice choice(
        {}, "a_gpu/1/bucket", stream_,
        {{kTiles, Always, Delay(kLong)}, {kMixedTiles, Always, Delay(time)}});
    EXPECT_EQ(Ask(&choice, 200), chosen) << time;
  }
}

TEST_F(ProductChoiceTest, ThoseThatCannotRunAreNotAsked) {
  const auto never = [](const PlainGemmParams&) { return false; };
  ProductChoice choice({}, "a_gpu/1/bucket", stream_,
                       {{kLibrary, never, Delay(kShort)},
                        {kTiles, Always, Delay(kLong)},
                        {kPanels, never, Delay(kShort)}});
  EXPECT_EQ(Ask(&choice, 200), kTiles);
  EXPECT_EQ(num_runs_, 0);  // there is nothing to choose from
  ProductChoice none({}, "a_gpu/1/bucket", stream_,
                     {{kLibrary, never, Delay(kShort)}});
  EXPECT_EQ(none.FastestOf(ProductOf(200)).status().code(),
            absl::StatusCode::kUnimplemented);
}

TEST_F(ProductChoiceTest, GatedProductsAreChosenForThemselves) {
  ProductChoice choice = Between(kLong, kShort);
  EXPECT_EQ(Ask(&choice, 200), kTiles);
  const int num_runs = num_runs_;
  PlainGemmParams gated = ProductOf(200);
  gated.is_gated = true;
  ASSERT_TRUE(choice.FastestOf(gated).ok());
  EXPECT_GT(num_runs_, num_runs);
}

TEST_F(ProductChoiceTest, KeptChoicesOfMissingOrOtherKernelsArePassedOver) {
  const LtGemmOptions options = {.cache_path = path_};
  ProductChoice three(
      options, "a_gpu/1/bucket", stream_,
      {{kLibrary, Always, Delay(kLong)}, {kPanels, Always, Delay(kShort)}});
  EXPECT_EQ(Ask(&three, 200), kPanels);
  ProductChoice two = Between(kLong, kShort, options);
  EXPECT_EQ(Ask(&two, 200), kTiles);
  // As an earlier version of our own kernels would have left it.
  std::ofstream(path_) << "a_gpu/1/bucket/tiles 64 128 256 1 1 0 0\n";
  const int num_runs = num_runs_;
  ProductChoice later = Between(kLong, kShort, options);
  EXPECT_EQ(Ask(&later, 200), kTiles);
  EXPECT_GT(num_runs_, num_runs);
}

TEST_F(ProductChoiceTest, OthersTakeWhatTheLibraryHasNoProductFor) {
  ProductChoice choice = Between(
      [](const PlainGemmParams&) { return absl::UnimplementedError("none"); },
      Delay(kLong));
  EXPECT_EQ(Ask(&choice, 200), kTiles);
}

TEST_F(ProductChoiceTest, ErrorsAreToldAndNotRemembered) {
  bool is_broken = true;
  ProductChoice choice = Between(
      [&](const PlainGemmParams&) {
        return is_broken ? absl::InternalError("broken") : absl::OkStatus();
      },
      Delay(kLong));
  EXPECT_EQ(choice.FastestOf(ProductOf(200)).status().code(),
            absl::StatusCode::kInternal);
  is_broken = false;
  EXPECT_EQ(Ask(&choice, 200), kLibrary);
}

TEST_F(ProductChoiceTest, WithoutRoomToTimeInTheFirstIsTakenForNow) {
  bool is_full = true;
  ProductChoice choice = Between(
      [&](const PlainGemmParams&) {
        return is_full ? absl::ResourceExhaustedError("full")
                       : CudaStatus(LaunchDelayCuda(kLong, stream_), "delay");
      },
      Delay(kShort));
  EXPECT_EQ(Ask(&choice, 200), kLibrary);
  is_full = false;
  EXPECT_EQ(Ask(&choice, 200), kTiles);
}

TEST_F(ProductChoiceTest, TimingAddsNothingToTheResult) {
  ProductChoice choice = Between(kLong, kShort);
  PlainGemmParams params = ProductOf(200);
  params.adds = true;
  ASSERT_TRUE(choice.FastestOf(params).ok());
  EXPECT_NE(last_.y, params.y);
  EXPECT_NE(last_.y, nullptr);
}

// A file that somebody changed names the library for a gated product. Needs no
// GPU: one candidate is not timed.
TEST(KeptProductChoiceTest, WhatCannotRunIsPassedOver) {
  const std::string path =
      absl::StrCat(testing::TempDir(), "/kept_product_choice_", getpid());
  std::ofstream(path) << "a_gpu/1/bucket/own" << kOwnProductsVersion
                      << " 64 128 256 1 1 8 0\n";
  const auto run = [](const PlainGemmParams&) { return absl::OkStatus(); };
  PlainGemmParams gated = {};
  gated.m = 200;
  gated.n = 64;
  gated.k = 128;
  gated.dtype = gated.y_dtype = DType::kBf16;
  gated.is_gated = true;
  for (const bool library_gates : {false, true}) {
    ProductChoice choice(
        {.cache_path = path}, "a_gpu/1/bucket", /*stream=*/nullptr,
        {{kLibrary, [=](const PlainGemmParams&) { return library_gates; }, run},
         {kTiles, [](const PlainGemmParams&) { return true; }, run}});
    const auto kernel = choice.FastestOf(gated);
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_EQ(*kernel, library_gates ? kLibrary : kTiles);
  }
  std::remove(path.c_str());
}

}  // namespace
}  // namespace quire
