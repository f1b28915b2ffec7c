// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/sampling_flags.h"

#include <gtest/gtest.h>

namespace quire {
namespace {

absl::StatusOr<v1::SamplingParams> Parse(const std::vector<std::string>& args) {
  SamplingFlags sampling;
  FlagSet flags("test", "");
  AddSamplingFlags(&sampling, &flags);
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return positional.status();
  return ToSamplingParams(sampling);
}

TEST(SamplingFlagsTest, SilenceSetsNothing) {
  const auto params = Parse({});
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->ByteSizeLong(), 0);
}

TEST(SamplingFlagsTest, EveryFlagReachesItsField) {
  const auto params = Parse({"--temperature=0",
                             "--top_p=0.5",
                             "--top_k=-1",
                             "--min_p=0.25",
                             "--presence_penalty=-2",
                             "--frequency_penalty=2",
                             "--repetition_penalty=1.5",
                             "--seed=-9",
                             "--stop=a,b",
                             "--stop=c",
                             "--stop_token_ids=1,2",
                             "--ignore_eos",
                             "--min_tokens=3",
                             "--max_tokens=4",
                             "--logprobs=0",
                             "--include_stop_str_in_output",
                             "--noskip_special_tokens",
                             "--beam_width=4",
                             "--length_penalty=-0.5",
                             "--early_stopping=never"});
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_TRUE(params->has_temperature());  // an explicit zero is not silence
  EXPECT_EQ(params->temperature(), 0);
  EXPECT_EQ(params->top_p(), 0.5);
  EXPECT_EQ(params->top_k(), -1);
  EXPECT_EQ(params->min_p(), 0.25);
  EXPECT_EQ(params->presence_penalty(), -2);
  EXPECT_EQ(params->frequency_penalty(), 2);
  EXPECT_EQ(params->repetition_penalty(), 1.5);
  EXPECT_EQ(params->seed(), -9);
  ASSERT_EQ(params->stop_size(), 2);
  EXPECT_EQ(params->stop(0), "a,b");
  EXPECT_EQ(params->stop_token_ids_size(), 2);
  EXPECT_TRUE(params->ignore_eos());
  EXPECT_EQ(params->min_tokens(), 3);
  EXPECT_EQ(params->max_tokens(), 4);
  EXPECT_TRUE(params->has_logprobs());
  EXPECT_TRUE(params->include_stop_str_in_output());
  EXPECT_TRUE(params->has_skip_special_tokens());
  EXPECT_FALSE(params->skip_special_tokens());
  EXPECT_EQ(params->beam_width(), 4);
  EXPECT_EQ(params->length_penalty(), -0.5);
  EXPECT_EQ(params->early_stopping(), v1::EARLY_STOPPING_NEVER);
}

TEST(SamplingFlagsTest, EarlyStoppingHasThreeValues) {
  EXPECT_EQ(Parse({"--early_stopping=true"})->early_stopping(),
            v1::EARLY_STOPPING_TRUE);
  EXPECT_EQ(Parse({"--early_stopping=false"})->early_stopping(),
            v1::EARLY_STOPPING_FALSE);
  EXPECT_EQ(Parse({"--early_stopping=soon"}).status().message(),
            "--early_stopping=soon is none of true, false, never");
}

TEST(SamplingFlagsTest, AStopThatIsNotUtf8IsRefused) {
  EXPECT_EQ(Parse({"--stop=a", "--stop=\xff"}).status().message(),
            "--stop is not UTF-8: bad byte at offset 0 of 1; convert it, such "
            "as with iconv");
}

TEST(SamplingFlagsTest, WhatServersRefuseIsToldWithItsRange) {
  const auto error_of = [](const std::string& flag) {
    return std::string(Parse({flag}).status().message());
  };
  EXPECT_EQ(error_of("--logprobs=-1"), "--logprobs=-1 is outside 0..20");
  EXPECT_EQ(error_of("--logprobs=21"), "--logprobs=21 is outside 0..20");
  EXPECT_EQ(error_of("--n=0"), "--n=0 is outside 1..16");
  EXPECT_EQ(error_of("--best_of=17"), "--best_of=17 is outside 1..16");
  EXPECT_EQ(error_of("--top_k=-2"), "--top_k=-2 is outside -1..2147483647");
  EXPECT_EQ(error_of("--max_tokens=0"),
            "--max_tokens=0 is outside 1..4294967295");
  EXPECT_EQ(error_of("--beam_width=1"),
            "--beam_width=1 is outside 2..16, and is not 0 (no beam search)");
  EXPECT_EQ(error_of("--logprobs=20"), "");
  EXPECT_EQ(error_of("--n=16"), "");
  EXPECT_EQ(error_of("--beam_width=0"), "");
}

TEST(SamplingFlagsTest, WhatAFieldCannotHoldIsRefused) {
  for (const std::string flag :
       {"--max_tokens=-1", "--min_tokens=4294967296", "--top_k=2147483648",
        "--stop_token_ids=-4", "--logprobs=-1", "--beam_width=-1"}) {
    EXPECT_EQ(Parse({flag}).status().code(), absl::StatusCode::kInvalidArgument)
        << flag;
  }
}

}  // namespace
}  // namespace quire
