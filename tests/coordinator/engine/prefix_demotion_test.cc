// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/prefix_demotion.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(PrefixDemotionTest, MovesMustBeFourTimesFasterThanComputing) {
  constexpr auto kAuto = PrefixDemotion::kAuto;
  // Out and in: 2 ms. 16 tokens anew: 8 ms at 2,000 tokens/s.
  const PreemptionRates even = {.swap_blocks = 1000, .prefill_tokens = 2000};
  EXPECT_FALSE(DemotesPrefixes(kAuto, even, /*block_size=*/16));
  EXPECT_TRUE(DemotesPrefixes(kAuto, even, 17));
  PreemptionRates faster = even;
  faster.swap_blocks = 1001;
  EXPECT_TRUE(DemotesPrefixes(kAuto, faster, 16));
}

TEST(PrefixDemotionTest, NothingMovesOnRatesThatNobodyMeasured) {
  constexpr auto kAuto = PrefixDemotion::kAuto;
  EXPECT_FALSE(DemotesPrefixes(kAuto, {}, 16));
  EXPECT_FALSE(DemotesPrefixes(kAuto, {.swap_blocks = 1e6}, 16));
  EXPECT_FALSE(DemotesPrefixes(kAuto, {.prefill_tokens = 1}, 16));
}

TEST(PrefixDemotionTest, WhatOperatorsSayStandsWhateverTheRates) {
  const PreemptionRates fast = {.swap_blocks = 1e6, .prefill_tokens = 1};
  EXPECT_TRUE(DemotesPrefixes(PrefixDemotion::kAlways, {}, 16));
  EXPECT_FALSE(DemotesPrefixes(PrefixDemotion::kNever, fast, 16));
}

TEST(PrefixDemotionTest, NamesAreThoseOfTheFlag) {
  for (PrefixDemotion demotion :
       {PrefixDemotion::kAuto, PrefixDemotion::kAlways,
        PrefixDemotion::kNever}) {
    EXPECT_EQ(ParsePrefixDemotion(PrefixDemotionName(demotion)).value(),
              demotion);
  }
  const absl::Status status = ParsePrefixDemotion("true").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("--demote_prefixes=true"),
            std::string::npos);
}

}  // namespace
}  // namespace quire
