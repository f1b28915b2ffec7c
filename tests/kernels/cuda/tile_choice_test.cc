// SPDX-License-Identifier: Apache-2.0
//
// What is timed, remembered and kept; products are delays of known lengths.
#include "kernels/cuda/tile_choice.h"

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

// Far apart, so that no disturbance makes the longer one look shorter.
constexpr int64_t kShort = 20'000, kLong = 2'000'000;  // nanoseconds

class TileChoiceTest : public testing::Test {
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

  // A choice between a library and tiles that take so long.
  TileChoice Between(int64_t library, int64_t tiles,
                     const LtGemmOptions& options = {},
                     const std::string& signature = "a_gpu/1/bucket") {
    const auto run = [this](int64_t nanoseconds) {
      return [this, nanoseconds](const PlainGemmParams& params) {
        ++num_runs_;
        last_ = params;
        return CudaStatus(LaunchDelayCuda(nanoseconds, stream_), "delay");
      };
    };
    return TileChoice(options, signature, stream_, run(library), run(tiles));
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

  bool Ask(TileChoice* choice, int64_t m) {
    const auto has_tiles = choice->AreTilesFaster(ProductOf(m));
    CHECK(has_tiles.ok()) << has_tiles.status();
    return *has_tiles;
  }

  const std::string path_ =
      absl::StrCat(testing::TempDir(), "/tile_choice_", getpid());
  cudaStream_t stream_ = nullptr;
  void* y_ = nullptr;
  int num_runs_ = 0;
  PlainGemmParams last_ = {};
};

TEST_F(TileChoiceTest, TheFasterOneIsChosen) {
  TileChoice slow_library = Between(kLong, kShort);
  EXPECT_TRUE(Ask(&slow_library, 200));
  TileChoice slow_tiles = Between(kShort, kLong);
  EXPECT_FALSE(Ask(&slow_tiles, 200));
}

TEST_F(TileChoiceTest, ABucketOfRowsIsTimedOnce) {
  TileChoice choice = Between(kLong, kShort);
  EXPECT_TRUE(Ask(&choice, 320));
  const int num_runs = num_runs_;
  EXPECT_GT(num_runs, 0);
  EXPECT_TRUE(Ask(&choice, 320));
  EXPECT_TRUE(Ask(&choice, 300));
  EXPECT_EQ(num_runs_, num_runs);
  EXPECT_TRUE(Ask(&choice, 321));
  EXPECT_GT(num_runs_, num_runs);
}

TEST_F(TileChoiceTest, ChoicesAreKeptForTheSameDeviceAndLibrary) {
  const LtGemmOptions options = {.cache_path = path_};
  TileChoice first = Between(kLong, kShort, options);
  EXPECT_TRUE(Ask(&first, 200));
  EXPECT_TRUE(Ask(&first, 500));
  const int num_runs = num_runs_;
  // It would choose otherwise.
  TileChoice second = Between(kShort, kLong, options);
  EXPECT_TRUE(Ask(&second, 200));
  EXPECT_TRUE(Ask(&second, 500));
  EXPECT_EQ(num_runs_, num_runs);
  TileChoice other = Between(kShort, kLong, options, "a_gpu/2/bucket");
  EXPECT_FALSE(Ask(&other, 200));
  EXPECT_GT(num_runs_, num_runs);
}

TEST_F(TileChoiceTest, NothingIsTimedWhereItMayNotBe) {
  TileChoice untuned = Between(kLong, kShort, {.is_tuned = false});
  EXPECT_FALSE(Ask(&untuned, 200));
  TileChoice choice = Between(kLong, kShort);
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
            cudaSuccess);
  EXPECT_FALSE(Ask(&choice, 200));
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_EQ(num_runs_, 0);
  EXPECT_TRUE(Ask(&choice, 200));  // that was no choice
}

TEST_F(TileChoiceTest, TilesTakeWhatTheLibraryHasNoProductFor) {
  TileChoice choice(
      {}, "a_gpu/1/bucket", stream_,
      [](const PlainGemmParams&) { return absl::UnimplementedError("none"); },
      [](const PlainGemmParams&) { return absl::OkStatus(); });
  EXPECT_TRUE(Ask(&choice, 200));
}

TEST_F(TileChoiceTest, ErrorsAreToldAndNotRemembered) {
  bool is_broken = true;
  TileChoice choice(
      {}, "a_gpu/1/bucket", stream_,
      [&](const PlainGemmParams&) {
        return is_broken ? absl::InternalError("broken") : absl::OkStatus();
      },
      [&](const PlainGemmParams&) {
        return CudaStatus(LaunchDelayCuda(kLong, stream_), "delay");
      });
  EXPECT_EQ(choice.AreTilesFaster(ProductOf(200)).status().code(),
            absl::StatusCode::kInternal);
  is_broken = false;
  EXPECT_FALSE(Ask(&choice, 200));
}

TEST_F(TileChoiceTest, WithoutRoomToTimeInTheLibraryIsTakenForNow) {
  bool is_full = true;
  TileChoice choice(
      {}, "a_gpu/1/bucket", stream_,
      [&](const PlainGemmParams&) {
        return is_full ? absl::ResourceExhaustedError("full")
                       : CudaStatus(LaunchDelayCuda(kLong, stream_), "delay");
      },
      [&](const PlainGemmParams&) {
        return CudaStatus(LaunchDelayCuda(kShort, stream_), "delay");
      });
  EXPECT_FALSE(Ask(&choice, 200));
  is_full = false;
  EXPECT_TRUE(Ask(&choice, 200));
}

TEST_F(TileChoiceTest, TimingAddsNothingToTheResult) {
  TileChoice choice = Between(kLong, kShort);
  PlainGemmParams params = ProductOf(200);
  params.adds = true;
  ASSERT_TRUE(choice.AreTilesFaster(params).ok());
  EXPECT_NE(last_.y, params.y);
  EXPECT_NE(last_.y, nullptr);
}

}  // namespace
}  // namespace quire
