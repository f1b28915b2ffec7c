// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_panels.h"

#include <bit>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/thread_team.h"

namespace quire {
namespace {

// Exact in bfloat16: small integers.
float Element(int64_t feature, int64_t k) {
  return static_cast<float>((7 * feature + 3 * k) % 200 + 1);
}

// Of feature `feature` and column `k` in packed panels of `num_k` columns.
float PackedAt(const std::vector<uint32_t>& panels, int64_t feature, int64_t k,
               int64_t num_k, DType dtype) {
  const int64_t panel = feature / kPanelLanes;
  const int64_t lane = feature % kPanelLanes;
  const int64_t step = dtype == DType::kF32 ? k : k / 2;
  const uint32_t group =
      panels[(panel * NumSteps(num_k, dtype) + step) * kPanelLanes + lane];
  if (dtype == DType::kF32) return std::bit_cast<float>(group);
  // The lower half is the earlier k.
  const auto half = static_cast<uint16_t>(k % 2 == 0 ? group : group >> 16);
  return ToFloat(std::bit_cast<Bf16>(half));
}

TEST(PackedPanelsTest, AreAsManyStepsAndPanelsAsTheSizesNeed) {
  EXPECT_EQ(NumSteps(33, DType::kF32), 33);
  EXPECT_EQ(NumSteps(1, DType::kBf16), 16);
  EXPECT_EQ(NumSteps(32, DType::kBf16), 16);
  EXPECT_EQ(NumSteps(33, DType::kBf16), 32);
  EXPECT_EQ(NumPanels(1), 1);
  EXPECT_EQ(NumPanels(kPanelLanes), 1);
  EXPECT_EQ(NumPanels(kPanelLanes + 1), 2);
}

// Around panels of 32 features, blocks of 64 groups and AMX's 32 columns.
TEST(PackedPanelsTest, EachElementHasItsPlaceAndMissingOnesAreZero) {
  const ThreadTeam team(/*num_threads=*/2);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t n : {1, 31, 32, 33, 70}) {
      for (const int64_t k : {1, 2, 31, 32, 63, 64, 65, 127, 129, 200}) {
        SCOPED_TRACE(testing::Message() << "n " << n << " k " << k);
        const int64_t stride = k + 3;
        std::vector<float> weight(n * stride, 1e30f);
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < k; ++j)
            weight[i * stride + j] = Element(i, j);
        }
        std::vector<uint32_t> panels(
            NumPanels(n) * NumSteps(k, dtype) * kPanelLanes, ~0u);
        PackPanels({{weight.data(), DType::kF32, n, k, stride}}, n, k, dtype,
                   team, panels.data());
        const int64_t padded_k =
            dtype == DType::kF32 ? k : 2 * NumSteps(k, dtype);
        for (int64_t i = 0; i < NumPanels(n) * kPanelLanes; ++i) {
          for (int64_t j = 0; j < padded_k; ++j) {
            ASSERT_EQ(PackedAt(panels, i, j, k, dtype),
                      i < n && j < k ? Element(i, j) : 0)
                << "feature " << i << " column " << j;
          }
        }
      }
    }
  }
}

TEST(PackedPanelsTest, StackedMatricesAreOneWeight) {
  const ThreadTeam team(/*num_threads=*/1);
  constexpr int64_t kCols = 5;
  std::vector<float> rows(40 * kCols);
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t j = 0; j < kCols; ++j) rows[i * kCols + j] = Element(i, j);
  }
  std::vector<uint32_t> panels(NumPanels(40) * kCols * kPanelLanes);
  // The second begins within a panel; one between has no rows.
  PackPanels({{rows.data(), DType::kF32, 30, kCols, kCols},
              {rows.data(), DType::kF32, 0, kCols, kCols},
              {&rows[30 * kCols], DType::kF32, 10, kCols, kCols}},
             40, kCols, DType::kF32, team, panels.data());
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t j = 0; j < kCols; ++j) {
      ASSERT_EQ(PackedAt(panels, i, j, kCols, DType::kF32), Element(i, j));
    }
  }
}

TEST(PackedPanelsTest, ConversionRoundsToTheNearestEven) {
  // Between 1 and the next bfloat16, 1 + 2^-7: halves go to the even one.
  const std::vector<float> floats = {1.0f, 1.0f + 0x1p-8f, 1.0f + 0x1.8p-8f,
                                     1.0f + 0x1.8p-7f};
  std::vector<Bf16> rounded(3);
  const HostMatrix from = {floats.data(), DType::kF32, 1, 4, 4};
  ConvertElements(from, /*first=*/1, /*count=*/3, DType::kBf16, rounded.data());
  EXPECT_EQ(ToFloat(rounded[0]), 1.0f);
  EXPECT_EQ(ToFloat(rounded[1]), 1.0f + 0x1p-7f);
  EXPECT_EQ(ToFloat(rounded[2]), 1.0f + 0x1p-6f);
  std::vector<float> back(2);
  ConvertElements({rounded.data(), DType::kBf16, 1, 3, 3}, 1, 2, DType::kF32,
                  back.data());
  EXPECT_EQ(back, (std::vector<float>{1.0f + 0x1p-7f, 1.0f + 0x1p-6f}));
}

}  // namespace
}  // namespace quire
