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
                       const std::vector<double>& expected,
                       int32_t length = 1) {
  const std::vector<double> frequencies =
      RopeFrequencies(rope, 2 * static_cast<int32_t>(expected.size()), length);
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

RopeConfig Dynamic() {
  return {.scaling = RopeConfig::Scaling::kDynamic,
          .factor = 4,
          .original_max_position = 256};
}

TEST(RopeTableTest, DynamicFrequenciesAreThoseOfTheLongestSequence) {
  // ROPE_INIT_FUNCTIONS["dynamic"] of transformers 5.17, seq_len 200 and 700.
  ExpectFrequencies(
      Dynamic(),
      {1.0, 0.3162277638912201, 0.10000000149011612, 0.03162277862429619,
       0.009999999776482582, 0.003162277862429619, 0.0010000000474974513,
       0.0003162277862429619},
      /*length=*/200);
  ExpectFrequencies(
      Dynamic(),
      {1.0, 0.23521971702575684, 0.05532832443714142, 0.013014312833547592,
       0.0030612230766564608, 0.0007200600812211633, 0.00016937234613578767,
       3.983972055721097e-05},
      /*length=*/700);
}

RopeConfig Yarn() {
  return {.scaling = RopeConfig::Scaling::kYarn,
          .factor = 4,
          .original_max_position = 64};
}

TEST(RopeTableTest, YarnFrequenciesAreTransformers) {
  // ROPE_INIT_FUNCTIONS["yarn"] of transformers 5.17.
  ExpectFrequencies(Yarn(), {1.0, 0.23717081546783447, 0.04999999701976776,
                             0.007905694656074047, 0.0024999999441206455,
                             0.0007905694656074047, 0.0002500000118743628,
                             7.905694656074047e-05});
  RopeConfig partial = Yarn();
  partial.truncate = false;
  partial.beta_fast = 8;
  partial.beta_slow = 2;
  ExpectFrequencies(partial, {1.0, 0.16058915853500366, 0.02500000037252903,
                              0.007905694656074047, 0.0024999999441206455,
                              0.0007905694656074047, 0.0002500000118743628,
                              7.905694656074047e-05});
  partial.beta_fast = 2;  // no ramp at all
  ExpectFrequencies(partial, {1.0, 0.3162277638912201, 0.02500000037252903,
                              0.007905694656074047, 0.0024999999441206455,
                              0.0007905694656074047, 0.0002500000118743628,
                              7.905694656074047e-05});
}

TEST(RopeTableTest, LongRopeIsShortUpToTheTrainedPositions) {
  // ROPE_INIT_FUNCTIONS["longrope"] of transformers 5.17, seq_len 64 and 65.
  const RopeConfig rope = {
      .scaling = RopeConfig::Scaling::kLongRope,
      .original_max_position = 64,
      .short_factors = {1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7},
      .long_factors = {1, 2, 3, 4, 5, 6, 7, 8.5}};
  ExpectFrequencies(
      rope,
      {1.0, 0.2874797582626343, 0.0833333358168602, 0.024325214326381683,
       0.0071428571827709675, 0.0021081853192299604, 0.0006249999860301614,
       0.0001860163320088759},
      /*length=*/64);
  ExpectFrequencies(
      rope,
      {1.0, 0.15811388194561005, 0.03333333507180214, 0.007905694656074047,
       0.0020000000949949026, 0.0005270463298074901, 0.0001428571413271129,
       3.720326640177518e-05},
      /*length=*/65);
}

TEST(RopeTableTest, TheAttentionFactorScalesCosinesAndSines) {
  RopeConfig rope = Yarn();
  const std::vector<float> plain = MakeRopeTable(rope, 8, 5);
  rope.attention_factor = 1.25;
  const std::vector<float> scaled = MakeRopeTable(rope, 8, 5);
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_FLOAT_EQ(scaled[i], 1.25f * plain[i]);
  }
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
  EXPECT_DEATH(RopeFrequencies({}, 3, 1), "dim % 2");
}

}  // namespace
}  // namespace quire
