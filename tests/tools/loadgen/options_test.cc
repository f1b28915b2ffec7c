// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<LoadgenOptions> Parse(const std::vector<std::string>& args) {
  LoadgenFlags loadgen;
  FlagSet flags("loadgen", "");
  AddLoadgenFlags(&loadgen, &flags);
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return positional.status();
  return ToLoadgenOptions(loadgen, flags);
}

std::string ErrorOf(const std::vector<std::string>& args) {
  return std::string(Parse(args).status().message());
}

TEST(LoadgenOptionsTest, DefaultsAreVllms) {
  const auto options = Parse({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->num_prompts, 1000);
  EXPECT_TRUE(std::isinf(options->arrival.request_rate));
  EXPECT_EQ(options->arrival.burstiness, 1);
  EXPECT_EQ(options->dataset.name, "random");
  EXPECT_THAT(options->metric_percentiles, ElementsAre(50, 90, 95, 99));
  EXPECT_THAT(options->console_percentiles, ElementsAre(99));
}

TEST(LoadgenOptionsTest, GoodputTakesLimitsAsVllmDoes) {
  const auto options =
      Parse({"--goodput", "ttft:200", "tpot:50.5", "--num-prompts=3"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->goodput.ttft_ms, 200);
  EXPECT_EQ(options->goodput.tpot_ms, 50.5);
  EXPECT_EQ(options->goodput.e2el_ms, std::nullopt);
  EXPECT_EQ(options->num_prompts, 3);
  EXPECT_THAT(ErrorOf({"--goodput", "itl:3"}),
              HasSubstr("--goodput=itl:3 is not a limit of ttft"));
  EXPECT_THAT(ErrorOf({"--goodput=ttft"}), HasSubstr("of the form ttft:200"));
}

TEST(LoadgenOptionsTest, ChosenPercentilesAreShownToo) {
  const auto options = Parse({"--metric_percentiles=25,99.9"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->metric_percentiles, ElementsAre(25, 99.9));
  EXPECT_THAT(options->console_percentiles, ElementsAre(25, 99.9));
  EXPECT_THAT(ErrorOf({"--metric_percentiles=101"}), HasSubstr("in 0..100"));
  EXPECT_THAT(ErrorOf({"--percentile_metrics=ttft,speed"}),
              HasSubstr("--percentile_metrics=speed is not"));
}

TEST(LoadgenOptionsTest, ARampNeedsItsOwnRates) {
  const auto options = Parse({"--ramp_up_strategy=linear",
                              "--ramp_up_start_rps=1", "--ramp_up_end_rps=5"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->arrival.ramp_up, RampUp::kLinear);
  EXPECT_THAT(ErrorOf({"--ramp_up_strategy=linear"}),
              HasSubstr("give both, and no --request_rate"));
  EXPECT_THAT(ErrorOf({"--ramp_up_strategy=steep"}),
              HasSubstr("linear or exponential"));
}

TEST(LoadgenOptionsTest, ABaseUrlIsATarget) {
  const auto options = Parse({"--base_url=grpc://host:81/"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->target, "host:81");
}

TEST(LoadgenOptionsTest, SequencesAndPrioritiesMayBeMixed) {
  const auto options =
      Parse({"--n=1,4", "--beam_width=0,0,2", "--priority=-1,7"});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->n, (std::vector<int64_t>{1, 4}));
  EXPECT_EQ(options->beam_width, (std::vector<int64_t>{0, 0, 2}));
  EXPECT_EQ(options->priority, (std::vector<int64_t>{-1, 7}));
}

TEST(LoadgenOptionsTest, OutOfRangeValuesAreNamed) {
  EXPECT_EQ(ErrorOf({"--n=1,17"}), "--n=17 is not in 1..16");
  EXPECT_EQ(ErrorOf({"--beam_width=1"}), "--beam_width=1 is not 0, or 2 to 16");
  EXPECT_THAT(ErrorOf({"--priority=high"}), HasSubstr("--priority=high"));
  EXPECT_EQ(ErrorOf({"--num_prompts=0"}),
            "--num_prompts=0 is not in 1..1073741824");
  EXPECT_THAT(ErrorOf({"--request_rate=0"}), HasSubstr("--request_rate=0"));
  EXPECT_THAT(ErrorOf({"--request_rate=nan"}), HasSubstr("--request_rate=nan"));
  EXPECT_THAT(ErrorOf({"--burstiness=0"}), HasSubstr("is not > 0"));
  EXPECT_THAT(ErrorOf({"--cancel_fraction=2"}), HasSubstr("in [0, 1]"));
  EXPECT_THAT(ErrorOf({"--random_range_ratio=1"}), HasSubstr("in [0, 1)"));
  EXPECT_THAT(ErrorOf({"--backend=openai"}), HasSubstr("is not grpc"));
  EXPECT_THAT(ErrorOf({"--metadata=x"}), HasSubstr("is not key=value"));
  EXPECT_THAT(ErrorOf({"--request_rat=3"}),
              HasSubstr("did you mean --request_rate?"));
}

TEST(LoadgenOptionsTest, ValuesThatNoRunSurvivesAreRefused) {
  for (const std::string flag :
       {"--num_prompts=9223372036854775807", "--num_channels=1025",
        "--random_input_len=9223372036854775807",
        "--random_prefix_len=9223372036854775807",
        "--custom_output_len=16777217", "--max_concurrency=-1",
        "--request_timeout_s=-1", "--request_timeout_s=nan",
        "--ready_check_timeout_sec=-1", "--ready_check_timeout_sec=nan",
        "--top_k=4294967297", "--goodput=ttft:nan",
        "--metric_percentiles=nan"}) {
    EXPECT_THAT(ErrorOf({flag}), testing::StartsWith(flag + " is not "))
        << flag;
  }
  EXPECT_THAT(ErrorOf({"--ramp_up_strategy=linear", "--ramp_up_start_rps=1",
                       "--ramp_up_end_rps=inf"}),
              HasSubstr("--ramp_up_end_rps=inf"));
  EXPECT_TRUE(Parse({"--request_timeout_s=0"}).ok());  // none
}

}  // namespace
}  // namespace quire
