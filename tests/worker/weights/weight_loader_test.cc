// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/weight_loader.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/worker/weights/model_folder.h"
#include "worker/weights/open_weights.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// Two stacked matrices and a vector over the CPU backend.
class WeightLoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_.Write(
        "model.safetensors",
        SafetensorsOf({{"a", "F32", {2, 3}, F32Bytes({1, 2, 3, 4, 5, 6})},
                       {"b", "F32", {1, 3}, F32Bytes({7, 8, 9})},
                       {"v", "F32", {2}, F32Bytes({10, 11})}}));
    expected_.tensors = {
        {"a", 2, 3, false}, {"b", 1, 3, false}, {"v", 2, 1, true}};
    expected_.probe = "a";
    backend_ = *CpuBackend::Create({.num_threads = 1});
    source_ = *OpenWeights({.folder = folder_.path()});
  }

  std::unique_ptr<WeightLoader> Create() {
    auto loader = WeightLoader::Create(expected_, *source_, *backend_,
                                       [this](int64_t done, int64_t total) {
                                         progress_.emplace_back(done, total);
                                       });
    EXPECT_TRUE(loader.ok()) << loader.status();
    return loader.ok() ? *std::move(loader) : nullptr;
  }

  ModelFolder folder_;
  TensorSet expected_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<WeightSource> source_;
  std::vector<std::pair<int64_t, int64_t>> progress_;
};

TEST_F(WeightLoaderTest, StacksSlicesByRows) {
  const auto loader = Create();
  const auto buffer =
      loader->Upload({loader->Cols("a", 1, 2), loader->Cols("b", 0, 2)});
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const float* data = (*buffer)->as<float>();
  EXPECT_THAT(std::vector<float>(data, data + 6),
              ElementsAre(2, 3, 5, 6, 7, 8));
}

TEST_F(WeightLoaderTest, ExchangesRowsAndColumnsOfWhatIsStoredSo) {
  const auto loader = Create();
  const auto buffer =
      loader->Upload({WeightLoader::Transposed(loader->Whole("a")),
                      WeightLoader::Transposed(loader->Cols("a", 2, 1)),
                      loader->Cols("b", 1, 2)});
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const float* data = (*buffer)->as<float>();
  EXPECT_THAT(std::vector<float>(data, data + 10),
              ElementsAre(1, 4, 2, 5, 3, 6, 3, 6, 8, 9));
}

TEST_F(WeightLoaderTest, ExchangesMoreThanATile) {
  constexpr int kRows = 37, kCols = 53;
  std::vector<float> values(kRows * kCols);
  for (int i = 0; i < kRows * kCols; ++i) values[i] = static_cast<float>(i);
  ModelFolder folder;
  folder.Write("model.safetensors",
               SafetensorsOf({{"m", "F32", {kRows, kCols}, F32Bytes(values)}}));
  TensorSet expected;
  expected.tensors = {{"m", kRows, kCols, false}};
  expected.probe = "m";
  const auto source = *OpenWeights({.folder = folder.path()});
  const auto loader =
      *WeightLoader::Create(expected, *source, *backend_, nullptr);
  const auto buffer = loader->Upload(
      {WeightLoader::Transposed(loader->Cols("m", 3, kCols - 3))});
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  const float* data = (*buffer)->as<float>();
  for (int col = 3; col < kCols; ++col) {
    for (int row = 0; row < kRows; ++row) {
      ASSERT_EQ(data[(col - 3) * kRows + row], row * kCols + col);
    }
  }
}

TEST_F(WeightLoaderTest, PacksWhatMultiplies) {
  const auto loader = Create();
  const auto weight =
      loader->Pack({loader->Rows("a", 1, 1), loader->Whole("b")});
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ((*weight)->n(), 2);
  EXPECT_EQ((*weight)->k(), 3);
  const float x[] = {1, 10, 100};
  float y[2];
  ASSERT_TRUE(backend_
                  ->Gemm({.x = x,
                          .x_stride = 3,
                          .weight = weight->get(),
                          .bias = nullptr,
                          .y = y,
                          .y_stride = 2,
                          .y_dtype = DType::kF32,
                          .m = 1})
                  .ok());
  EXPECT_THAT(y, ElementsAre(654, 987));
}

TEST_F(WeightLoaderTest, FillsAWeightWithRowsOfZeros) {
  const auto loader = Create();
  const auto weight = loader->Pack({loader->Whole("a")}, /*row_multiple=*/4);
  ASSERT_TRUE(weight.ok()) << weight.status();
  ASSERT_EQ((*weight)->n(), 4);
  const std::vector<float> x = {1, 10, 100};
  std::vector<float> y(4, -1);
  ASSERT_TRUE(backend_
                  ->Gemm({.x = x.data(),
                          .x_stride = 3,
                          .weight = weight->get(),
                          .bias = nullptr,
                          .y = y.data(),
                          .y_stride = 4,
                          .y_dtype = DType::kF32,
                          .m = 1})
                  .ok());
  EXPECT_THAT(y, ElementsAre(321, 654, 0, 0));
}

TEST_F(WeightLoaderTest, PacksExpertsApart) {
  const auto loader = Create();
  // Three experts of a row each, in two pieces.
  const auto weight =
      loader->PackExperts({loader->Whole("a"), loader->Whole("b")}, 3);
  ASSERT_TRUE(weight.ok()) << weight.status();
  ASSERT_EQ((*weight)->n(), 1);
  const std::vector<float> x = {1, 10, 100, 1, 0, 0};
  const std::vector<int32_t> start = {0, 0, 1, 2};
  std::vector<float> y(2, -1);
  ASSERT_TRUE(backend_
                  ->ExpertGemm({.x = x.data(),
                                .row_tokens = nullptr,
                                .weight = weight->get(),
                                .expert_start = start.data(),
                                .y = y.data(),
                                .y_dtype = DType::kF32,
                                .num_experts = 3,
                                .num_rows = 2})
                  .ok());
  EXPECT_THAT(y, ElementsAre(654, 7));
}

TEST_F(WeightLoaderTest, CountsEachTensorOnceAndAllInTheEnd) {
  const auto loader = Create();
  ASSERT_TRUE(loader->Upload({loader->Rows("a", 0, 1)}).ok());
  ASSERT_TRUE(loader->Upload({loader->Rows("a", 1, 1)}).ok());
  ASSERT_TRUE(loader->Upload({loader->Whole("b")}).ok());
  ASSERT_TRUE(loader->Upload({loader->Rows("v", 0, 1)}).ok());
  EXPECT_THAT(progress_,
              ElementsAre(Pair(6, 11), Pair(6, 11), Pair(9, 11), Pair(11, 11)));
}

TEST_F(WeightLoaderTest, SaysWhatItHoldsOnTheDevice) {
  const auto loader = Create();
  ASSERT_TRUE(loader->Upload({loader->Whole("v")}).ok());
  EXPECT_GE(loader->device_bytes(), 2 * 4);
}

TEST_F(WeightLoaderTest, RefusesASourceThatDoesNotFit) {
  expected_.tensors.push_back({"w", 1, 1, false});
  EXPECT_EQ(WeightLoader::Create(expected_, *source_, *backend_, nullptr)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(WeightLoaderTest, AskingForAnUnexpectedTensorIsABug) {
  const auto loader = Create();
  EXPECT_DEATH(loader->Whole("w"), "not an expected tensor");
}

}  // namespace
}  // namespace quire
