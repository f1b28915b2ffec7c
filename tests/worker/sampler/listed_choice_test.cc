// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/listed_choice.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/sampler/group_rows.h"
#include "worker/sampler/plain_row.h"

namespace quire {
namespace {

// Listed rows with every filter among plain ones and others.
std::vector<SlotSampling> MixedSamplings(int32_t num_rows) {
  std::vector<SlotSampling> samplings(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    SlotSampling& sampling = samplings[i];
    sampling.seed = 77 * i;
    sampling.temperature = 0.4f + 0.3f * (i % 3);
    if (i % 5 < 3) sampling.top_k = 1 + 13 * (i % 4);
    if (i % 3 == 1) sampling.top_p = 0.8f;
    if (i % 4 == 2) sampling.min_p = 0.05f;
    if (i % 7 == 5) sampling.top_k = kMaxListed + 1;
    if (i % 11 == 7) sampling.num_logprobs = 2;
  }
  return samplings;
}

bool RanksChooseAsOne(int32_t world, int32_t vocab,
                      const std::vector<SlotSampling>& samplings,
                      const std::vector<int64_t>& gathered_bytes) {
  const std::vector<std::string> wrong = WhatIsWrongWithRanks<ListedChoice>(
      world, vocab, samplings, IsListedRow, gathered_bytes);
  for (int32_t rank = 0; rank < world; ++rank) {
    if (wrong[rank].empty()) continue;
    ADD_FAILURE() << "rank " << rank << " of " << world << ": " << wrong[rank];
    return false;
  }
  return true;
}

TEST(ListedChoiceTest, RanksChooseWhatOneDeviceChoosesFromWholeRows) {
  const std::vector<SlotSampling> samplings = MixedSamplings(60);
  int64_t num_listed = 0;
  for (const SlotSampling& sampling : samplings) {
    num_listed += sampling.top_k > 0 && sampling.top_k <= kMaxListed;
  }
  ASSERT_GT(num_listed, 20);
  // Of the largest top_k, 40, and what a shard says besides.
  const int64_t bytes = num_listed * 41 * sizeof(ListedToken);
  for (const int32_t world : {2, 4, 8}) {
    // Shards with more tokens than top_k and with fewer, and empty ones.
    for (const int32_t vocab : {9, 97, 211}) {
      if (ShardOf(vocab, world - 1, world).num_ids < 0) continue;
      EXPECT_TRUE(RanksChooseAsOne(world, vocab, samplings, {bytes}));
    }
  }
}

TEST(ListedChoiceTest, ListsFollowTheLargestTopKOfTheStep) {
  std::vector<SlotSampling> samplings(3);
  samplings[0].top_k = 2;
  samplings[1].top_k = 5;
  samplings[2].top_k = kMaxListed + 1;  // not listed
  EXPECT_TRUE(
      RanksChooseAsOne(2, 31, samplings, {2 * 6 * sizeof(ListedToken)}));
}

TEST(ListedChoiceTest, ManyLongListsTravelInPieces) {
  std::vector<SlotSampling> samplings(260);
  for (size_t i = 0; i < samplings.size(); ++i) {
    samplings[i].seed = i;
    samplings[i].top_k = kMaxListed;
  }
  const int64_t row_bytes = (1 + kMaxListed) * int64_t{sizeof(ListedToken)};
  // Of four ranks together 8 MiB.
  EXPECT_TRUE(
      RanksChooseAsOne(4, 1300, samplings, {255 * row_bytes, 5 * row_bytes}));
}

TEST(ListedChoiceTest, WithoutListedRowsNothingTravels) {
  std::vector<SlotSampling> samplings(4);
  samplings[1].top_p = 0.5f;
  samplings[2].top_k = kMaxListed + 1;
  samplings[3].temperature = 0;
  samplings[3].top_k = 5;
  EXPECT_TRUE(RanksChooseAsOne(2, 31, samplings, {}));
}

}  // namespace
}  // namespace quire
