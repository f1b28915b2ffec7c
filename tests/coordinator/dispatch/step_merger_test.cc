// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/step_merger.h"

#include "common/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr Epoch kCoordinator(7);
constexpr Epoch kGroup(3);

StepResult Result(uint64_t step, std::vector<TokenId> tokens,
                  int32_t step_us = 10) {
  StepResult result;
  result.identity = {kCoordinator, kGroup, StepId(step)};
  result.token_digest = TokenDigest(tokens);
  result.tokens = std::move(tokens);
  result.table_digest = step * 100;
  result.step_us = step_us;
  return result;
}

// What ranks other than 0 send.
StepResult Echo(StepResult result) {
  result.tokens.clear();
  return result;
}

class StepMergerTest : public testing::Test {
 protected:
  StepMergerTest() { merger_.ExpectStep(StepId(2)); }
  StepMerger merger_{/*world_size=*/2, kCoordinator, kGroup};
};

TEST_F(StepMergerTest, TokensAreRankZerosWhoeverIsFirst) {
  auto open = merger_.Add(1, Echo(Result(1, {4, 5}, 30)));
  ASSERT_TRUE(open.ok() && !open->has_value());
  EXPECT_EQ(merger_.SlowestRank(), 0);
  auto merged = merger_.Add(0, Result(1, {4, 5}, 20));
  ASSERT_TRUE(merged.ok() && merged->has_value());
  EXPECT_THAT((*merged)->tokens, testing::ElementsAre(4, 5));
  EXPECT_EQ((*merged)->step_us, 30);  // the slowest rank's

  ASSERT_TRUE(merger_.Add(0, Result(2, {6})).ok());
  merged = merger_.Add(1, Echo(Result(2, {6})));
  ASSERT_TRUE(merged.ok() && merged->has_value());
  EXPECT_THAT((*merged)->tokens, testing::ElementsAre(6));
}

TEST_F(StepMergerTest, OneRankMayRunAhead) {
  ASSERT_TRUE(merger_.Add(0, Result(1, {4})).ok());
  ASSERT_TRUE(merger_.Add(0, Result(2, {5})).ok());
  auto first = merger_.Add(1, Echo(Result(1, {4})));
  ASSERT_TRUE(first.ok() && first->has_value());
  EXPECT_EQ((*first)->identity.step_id, StepId(1));
  auto second = merger_.Add(1, Echo(Result(2, {5})));
  ASSERT_TRUE(second.ok() && second->has_value());
  EXPECT_EQ((*second)->identity.step_id, StepId(2));
}

TEST_F(StepMergerTest, DifferentTokensAreADivergence) {
  ASSERT_TRUE(merger_.Add(0, Result(1, {4})).ok());
  const absl::Status status = merger_.Add(1, Echo(Result(1, {5}))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(status.message(), "ranks 0 and 1 disagree on the tokens of step 1");
}

TEST_F(StepMergerTest, DifferentTablesAreADivergence) {
  ASSERT_TRUE(merger_.Add(0, Result(1, {4})).ok());
  StepResult other = Echo(Result(1, {4}));
  ++other.table_digest;
  EXPECT_EQ(merger_.Add(1, other).status().message(),
            "ranks 0 and 1 disagree on the block tables of step 1");
}

TEST_F(StepMergerTest, RankZeroMustCoverItsOwnTokens) {
  StepResult forged = Result(1, {4});
  forged.tokens = {5};
  EXPECT_FALSE(merger_.Add(0, forged).ok());
}

TEST_F(StepMergerTest, StepsMustComeInOrderAndAfterTheirPlan) {
  EXPECT_FALSE(merger_.Add(0, Result(2, {4})).ok());  // step 1 was due
  ASSERT_TRUE(merger_.Add(1, Echo(Result(1, {4}))).ok());
  EXPECT_FALSE(merger_.Add(1, Echo(Result(1, {4}))).ok());  // again
  ASSERT_TRUE(merger_.Add(1, Echo(Result(2, {4}))).ok());
  EXPECT_FALSE(merger_.Add(1, Echo(Result(3, {4}))).ok());  // never sent
}

TEST_F(StepMergerTest, OtherEpochsAreRefused) {
  StepResult old = Result(1, {4});
  old.identity.group_epoch = Epoch(2);
  EXPECT_FALSE(merger_.Add(0, old).ok());
  StepResult foreign = Result(1, {4});
  foreign.identity.coordinator_epoch = Epoch(8);
  EXPECT_FALSE(merger_.Add(0, foreign).ok());
}

}  // namespace
}  // namespace quire
