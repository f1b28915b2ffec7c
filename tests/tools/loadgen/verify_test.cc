// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

RequestRecord Record(int64_t idx, std::vector<uint32_t> token_ids,
                     RequestOutcome outcome = RequestOutcome::kCompleted) {
  RequestRecord record;
  record.idx = idx;
  record.outcome = outcome;
  record.sequences = {{.token_ids = std::move(token_ids)}};
  return record;
}

TEST(VerifyTest, EqualRunsDoNotDiffer) {
  const std::vector<RequestRecord> run = {Record(0, {1, 2}), Record(1, {3})};
  const VerifyResult result = CompareRuns(run, run);
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.num_compared, 2);
  EXPECT_EQ(VerifyText(result),
            "Compared streams:                        2         \n"
            "Differing streams:                       0         \n");
}

TEST(VerifyTest, ADifferenceNamesRequestOffsetAndTokens) {
  const VerifyResult result =
      CompareRuns({Record(4, {1, 2, 3})}, {Record(4, {1, 9, 3})});
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.num_differing, 1);
  EXPECT_THAT(result.details,
              ElementsAre("request 4 differs at output offset 1: token 2 under "
                          "load, token 9 alone"));
  EXPECT_THAT(VerifyText(result), HasSubstr("  request 4 differs"));
}

TEST(VerifyTest, AShorterStreamDiffersAtItsEnd) {
  EXPECT_THAT(CompareRuns({Record(0, {1})}, {Record(0, {1, 2})}).details,
              ElementsAre(HasSubstr("offset 1: the end under load, token 2")));
  EXPECT_THAT(CompareRuns({Record(0, {1, 2})}, {Record(0, {1})}).details,
              ElementsAre(HasSubstr("offset 1: token 2 under load, the end")));
}

TEST(VerifyTest, EverySequenceIsCompared) {
  RequestRecord one = Record(3, {1, 2});
  one.sequences.push_back({.token_ids = {4, 5}});
  RequestRecord same = one;
  EXPECT_EQ(CompareRuns({one}, {same}).num_compared, 2);
  EXPECT_TRUE(CompareRuns({one}, {same}).ok());
  same.sequences[1].token_ids[0] = 9;
  EXPECT_THAT(CompareRuns({one}, {same}).details,
              ElementsAre(HasSubstr("request 3 sequence 1 differs at output "
                                    "offset 0: token 4")));
  same.sequences.pop_back();
  EXPECT_EQ(CompareRuns({one}, {same}).num_differing, 1);
}

TEST(VerifyTest, OnlyWhatCompletedFirstIsCompared) {
  const VerifyResult result =
      CompareRuns({Record(0, {1}, RequestOutcome::kFailed),
                   Record(1, {1}, RequestOutcome::kCancelled), Record(2, {5})},
                  {Record(2, {5})});
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.num_compared, 1);
}

TEST(VerifyTest, AFailedRepetitionIsNotEquality) {
  const VerifyResult result =
      CompareRuns({Record(0, {1}), Record(1, {1})},
                  {Record(0, {1}, RequestOutcome::kFailed)});
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.num_unrepeated, 2);
  EXPECT_EQ(result.num_differing, 0);
}

TEST(VerifyTest, DetailsAreFew) {
  std::vector<RequestRecord> first, second;
  for (int64_t idx = 0; idx < 50; ++idx) {
    first.push_back(Record(idx, {1}));
    second.push_back(Record(idx, {2}));
  }
  const VerifyResult result = CompareRuns(first, second);
  EXPECT_EQ(result.num_differing, 50);
  EXPECT_EQ(result.details.size(), 5);
}

}  // namespace
}  // namespace quire
