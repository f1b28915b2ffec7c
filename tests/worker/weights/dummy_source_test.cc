// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/dummy_source.h"

#include <bit>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

const TensorSpec kMatrix = {"layers.0.q_proj.weight", 64, 100, false};

std::vector<float> Read(uint64_t seed, const WeightSlice& slice,
                        DType dtype = DType::kF32) {
  DummySource source(seed);
  const auto loaded = source.Read(slice, dtype);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  const HostMatrix& matrix = loaded->matrix;
  EXPECT_EQ(matrix.dtype, dtype);
  std::vector<float> values;
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t col = 0; col < matrix.cols; ++col) {
      const int64_t at = row * matrix.row_stride + col;
      values.push_back(
          dtype == DType::kF32
              ? static_cast<const float*>(matrix.data)[at]
              : std::bit_cast<float>(
                    uint32_t{static_cast<const uint16_t*>(matrix.data)[at]}
                    << 16));
    }
  }
  return values;
}

WeightSlice Whole(const TensorSpec& tensor) {
  return {tensor, 0, tensor.rows, 0, tensor.cols};
}

TEST(DummySourceTest, ASliceIsPartOfTheWhole) {
  const std::vector<float> whole = Read(1, Whole(kMatrix));
  // Borders at every phase of the eight elements of a hash.
  for (int64_t first_col = 0; first_col < 17; ++first_col) {
    const WeightSlice slice = {kMatrix, 5, 3, first_col, 100 - 2 * first_col};
    const std::vector<float> part = Read(1, slice);
    for (int64_t row = 0; row < slice.num_rows; ++row) {
      for (int64_t col = 0; col < slice.num_cols; ++col) {
        ASSERT_EQ(part[row * slice.num_cols + col],
                  whole[(5 + row) * 100 + first_col + col]);
      }
    }
  }
}

TEST(DummySourceTest, BothTypesHoldTheSameValues) {
  EXPECT_EQ(Read(1, Whole(kMatrix), DType::kBf16), Read(1, Whole(kMatrix)));
}

TEST(DummySourceTest, SeedAndNameMatter) {
  TensorSpec other = kMatrix;
  other.name = "layers.1.q_proj.weight";
  EXPECT_EQ(Read(1, Whole(kMatrix)), Read(1, Whole(kMatrix)));
  EXPECT_NE(Read(1, Whole(kMatrix)), Read(2, Whole(kMatrix)));
  EXPECT_NE(Read(1, Whole(kMatrix)), Read(1, Whole(other)));
}

TEST(DummySourceTest, MatricesKeepTheSizeOfWhatTheyMultiply) {
  const TensorSpec matrix = {"w", 256, 1024, false};
  double sum = 0;
  double squares = 0;
  const std::vector<float> values = Read(1, Whole(matrix));
  for (float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const double n = static_cast<double>(values.size());
  // The deviation is 1 / sqrt(1024), rounded to a power of two from one that is
  // off by less than sqrt(2); the mean of 2^18 draws is 0 within 5 of its own
  // deviations.
  EXPECT_GT(std::sqrt(squares / n), 0.7 / 32);
  EXPECT_LT(std::sqrt(squares / n), 1.42 / 32);
  EXPECT_LT(std::abs(sum / n), 5 * 1.42 / 32 / std::sqrt(n));
}

TEST(DummySourceTest, NormsAreOnesAndBiasesAreNot) {
  const TensorSpec norm = {"layers.0.input_layernorm.weight", 9, 1, true};
  for (float value : Read(1, Whole(norm))) EXPECT_EQ(value, 1);
  const TensorSpec bias = {"layers.0.q_proj.bias", 9, 1, true};
  EXPECT_NE(Read(1, Whole(bias)), std::vector<float>(9, 1));
}

}  // namespace
}  // namespace quire
