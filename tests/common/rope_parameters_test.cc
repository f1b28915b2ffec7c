// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include "common/model_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/config_json.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using namespace config_json;

Json Llama3Scaling() {
  return {{"rope_type", "llama3"},
          {"factor", 32.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 8192}};
}

TEST(RopeParametersTest, ReadsOldLinearScaling) {
  for (const char* type : {"type", "rope_type"}) {
    Json json = With(Llama(), "rope_theta", 5e5);
    json["rope_scaling"] = {{type, "linear"}, {"factor", 2.5}};
    const ModelConfig config = Parse(json);
    EXPECT_EQ(config.rope.theta, 5e5);
    EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLinear);
    EXPECT_EQ(config.rope.factor, 2.5);
  }
}

TEST(RopeParametersTest, ReadsOldLlama3Scaling) {
  Json json = With(Llama(), "rope_theta", 500000.0);
  json["rope_scaling"] = Llama3Scaling();
  const ModelConfig config = Parse(json);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.rope.factor, 32);
  EXPECT_EQ(config.rope.high_freq_factor, 4);
  EXPECT_EQ(config.rope.original_max_position, 8192);
}

TEST(RopeParametersTest, ReadsRopeParametersWithTheBaseInside) {
  Json parameters = Llama3Scaling();
  parameters["rope_theta"] = 250000.0;
  const ModelConfig config =
      Parse(With(Llama(), "rope_parameters", parameters));
  EXPECT_EQ(config.rope.theta, 250000);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLlama3);
  const ModelConfig plain =
      Parse(With(Llama(), "rope_parameters",
                 {{"rope_type", "default"}, {"rope_theta", 1e6}}));
  EXPECT_EQ(plain.rope.theta, 1e6);
  EXPECT_EQ(plain.rope.scaling, RopeConfig::Scaling::kNone);
}

TEST(RopeParametersTest, Llama3ScalingNeedsOrderedFactors) {
  Json scaling = Llama3Scaling();
  scaling["high_freq_factor"] = 1.0;
  EXPECT_THAT(ParseError(With(Llama(), "rope_scaling", scaling)).message(),
              HasSubstr("more than low_freq_factor"));
}

// A scaling in either layout: beside the base, or with it inside.
ModelConfig ParseScaled(const Json& scaling) {
  Json inside = scaling;
  inside["rope_theta"] = 1000.0;
  const ModelConfig config = Parse(With(Llama(), "rope_parameters", inside));
  Json beside = With(Llama(), "rope_theta", 1000.0);
  beside["rope_scaling"] = scaling;
  beside["rope_scaling"]["type"] = scaling["rope_type"];
  beside["rope_scaling"].erase("rope_type");
  const ModelConfig old = Parse(beside);
  EXPECT_EQ(old.rope.theta, config.rope.theta);
  EXPECT_EQ(old.rope.scaling, config.rope.scaling);
  EXPECT_EQ(old.rope.factor, config.rope.factor);
  EXPECT_EQ(old.rope.attention_factor, config.rope.attention_factor);
  EXPECT_EQ(old.max_position, config.max_position);
  return config;
}

TEST(RopeParametersTest, DynamicScalingReachesFurtherThanItWasTrained) {
  const ModelConfig config =
      ParseScaled({{"rope_type", "dynamic"}, {"factor", 2.5}});
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kDynamic);
  EXPECT_EQ(config.rope.original_max_position, 4096);
  EXPECT_EQ(config.max_position, 4096);
  EXPECT_EQ(config.max_scaled_position, 10240);
  EXPECT_EQ(Parse(Llama()).max_scaled_position, 4096);
}

TEST(RopeParametersTest, YarnSharpensScoresByItsFactor) {
  // 0.1 ln(4) + 1, as in the paper.
  const Json plain = {{"rope_type", "yarn"},
                      {"factor", 4.0},
                      {"original_max_position_embeddings", 4096}};
  const ModelConfig config = ParseScaled(plain);
  EXPECT_EQ(config.rope.beta_fast, 32);
  EXPECT_EQ(config.rope.beta_slow, 1);
  EXPECT_TRUE(config.rope.truncate);
  EXPECT_NEAR(config.rope.attention_factor, 1.138629436111989, 1e-12);
  EXPECT_EQ(config.max_position, 16384);
  EXPECT_EQ(config.max_scaled_position, 16384);
  Json scaled = With(plain, "mscale", 0.7);
  scaled["mscale_all_dim"] = 1.0;
  EXPECT_NEAR(ParseScaled(scaled).rope.attention_factor, 0.9634746568860826,
              1e-12);
  EXPECT_EQ(
      ParseScaled(With(scaled, "attention_factor", 0.5)).rope.attention_factor,
      0.5);
}

TEST(RopeParametersTest, YarnsFactorIsTheRatioOfItsLengths) {
  const ModelConfig config = ParseScaled(
      {{"rope_type", "yarn"}, {"original_max_position_embeddings", 512}});
  EXPECT_EQ(config.rope.factor, 8);
  EXPECT_EQ(config.max_position, 4096);
  // Without a length of its own it was trained on all positions.
  const ModelConfig all = ParseScaled({{"rope_type", "yarn"}, {"factor", 4.0}});
  EXPECT_EQ(all.rope.original_max_position, 4096);
  EXPECT_EQ(all.max_position, 4096);
}

Json LongRope() {
  return {{"rope_type", "longrope"},
          {"short_factor", std::vector<double>(32, 1.5)},
          {"long_factor", std::vector<double>(32, 4)},
          {"original_max_position_embeddings", 64}};
}

TEST(RopeParametersTest, LongRopeHasTwoListsOfFactors) {
  const ModelConfig config = ParseScaled(LongRope());
  EXPECT_EQ(config.rope.short_factors, std::vector<double>(32, 1.5));
  EXPECT_EQ(config.rope.long_factors, std::vector<double>(32, 4));
  EXPECT_EQ(config.rope.factor, 64);
  EXPECT_NEAR(config.rope.attention_factor, std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(
      ParseScaled(With(LongRope(), "factor", 8.0)).rope.attention_factor,
      1.224744871391589, 1e-12);
  // Beside the scaling, as Phi 3 has it.
  Json beside = With(Llama(), "rope_scaling", LongRope());
  beside["original_max_position_embeddings"] = 1024;
  EXPECT_EQ(Parse(beside).rope.original_max_position, 1024);
}

class BadScalingTest : public testing::TestWithParam<BadField> {};

// The field is the scaling's; the value, the whole scaling.
TEST_P(BadScalingTest, IsRefusedWithTheFieldsName) {
  const BadField& bad = GetParam();
  const absl::Status status =
      ParseError(With(Llama(), "rope_parameters", bad.value));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr("rope_parameters"));
  EXPECT_THAT(status.message(), HasSubstr(bad.field));
  EXPECT_THAT(status.message(), HasSubstr(bad.expected));
}

INSTANTIATE_TEST_SUITE_P(
    EachRule, BadScalingTest,
    testing::Values(
        BadField{"factor", {{"rope_type", "dynamic"}}, "missing"},
        BadField{"factor", {{"rope_type", "yarn"}, {"factor", 0.5}}, "[1, "},
        BadField{"beta_fast",
                 {{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 0.5}},
                 "at least beta_slow"},
        BadField{"truncate",
                 {{"rope_type", "yarn"}, {"factor", 2}, {"truncate", 1}},
                 "true or false"},
        BadField{"rope_theta",
                 {{"rope_type", "yarn"}, {"factor", 2}, {"rope_theta", 1}},
                 "more than 1"},
        BadField{"short_factor", {{"rope_type", "longrope"}}, "32 positive"},
        BadField{"long_factor", With(LongRope(), "long_factor", {1.0, 2.0}),
                 "32 positive"},
        BadField{"long_factor",
                 With(LongRope(), "long_factor", std::vector<double>(32, 0)),
                 "positive numbers"},
        BadField{"original_max_position_embeddings",
                 With(LongRope(), "original_max_position_embeddings", 1),
                 "at least 2"},
        BadField{"full_attention",
                 {{"full_attention", Json::object()}},
                 "one rotation"}));

}  // namespace
}  // namespace quire
