// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rope_table.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// Transformers computes frequencies in float32: 16 roundings of 2^-24 cover its
// power, quotient and mixing.
constexpr double kRelative = 1e-6;

void ExpectFrequencies(const RopeConfig& rope,
                       const std::vector<double>& expected) {
  const std::vector<double> frequencies =
      RopeFrequencies(rope, 2 * static_cast<int32_t>(expected.size()));
  ASSERT_EQ(frequencies.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(frequencies[i], expected[i], kRelative * expected[i]) << i;
  }
}

TEST(RopeTableTest, Llama3FrequenciesAreTransformers) {
  // ROPE_INIT_FUNCTIONS["llama3"] of transformers 5.17.
  ExpectFrequencies(
      {.theta = 500000,
       .scaling = RopeConfig::Scaling::kLlama3,
       .factor = 8,
       .low_freq_factor = 1,
       .high_freq_factor = 4,
       .original_max_position = 8192},
      {1.0, 0.193922758102417, 0.03760603070259094, 0.00729266507551074,
       0.0005248460220173001, 3.428102354519069e-05, 6.647869668086059e-06,
       1.289173155782919e-06});
}

TEST(RopeTableTest, LinearFrequenciesAreTransformers) {
  // ROPE_INIT_FUNCTIONS["linear"] of transformers 5.17.
  ExpectFrequencies(
      {.theta = 10000, .scaling = RopeConfig::Scaling::kLinear, .factor = 4},
      {0.25, 0.07905694097280502, 0.02500000037252903, 0.007905694656074047,
       0.0024999999441206455, 0.0007905694656074047, 0.0002500000118743628,
       7.905694656074047e-05});
}

TEST(RopeTableTest, RowsAreCosinesThenSines) {
  const std::vector<float> table =
      MakeRopeTable({.theta = 100}, /*dim=*/4, /*num_positions=*/3);
  ASSERT_EQ(table.size(), 12);
  for (int position = 0; position < 3; ++position) {
    const float* row = table.data() + 4 * position;
    EXPECT_FLOAT_EQ(row[0], std::cos(1.0 * position));
    EXPECT_FLOAT_EQ(row[1], std::cos(0.1 * position));
    EXPECT_FLOAT_EQ(row[2], std::sin(1.0 * position));
    EXPECT_FLOAT_EQ(row[3], std::sin(0.1 * position));
  }
}

TEST(RopeTableTest, FarPositionsKeepTheirPrecision) {
  // In float32 the angle alone would be off by 2^-24 * 131071 = 0.008.
  const int32_t position = 131071;
  const std::vector<float> table = MakeRopeTable({}, 4, position + 1);
  EXPECT_NEAR(table[4 * int64_t{position} + 1], std::cos(position * 0.01),
              1e-7);
}

TEST(RopeTableDeathTest, OddDimensionsAreABug) {
  EXPECT_DEATH(RopeFrequencies({}, 3), "dim % 2");
}

}  // namespace
}  // namespace quire
