// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/nucleus_choice.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/sampler/group_rows.h"
#include "worker/sampler/plain_row.h"

namespace quire {
namespace {

bool RanksChooseAsOne(int32_t world, int32_t vocab,
                      const std::vector<SlotSampling>& samplings,
                      const std::vector<int64_t>& gathered_bytes) {
  const std::vector<std::string> wrong = WhatIsWrongWithRanks<NucleusChoice>(
      world, vocab, samplings, IsNucleusRow, gathered_bytes);
  for (int32_t rank = 0; rank < world; ++rank) {
    if (wrong[rank].empty()) continue;
    ADD_FAILURE() << "rank " << rank << " of " << world << ": " << wrong[rank];
    return false;
  }
  return true;
}

// What a rank sends for so many rows.
std::vector<int64_t> BytesOf(int64_t num_rows) {
  const int64_t bins = num_rows * 256 * 8;
  return {num_rows * 4, bins, bins, bins, num_rows * 8};
}

// Rows of top_p and min_p among plain ones and others.
std::vector<SlotSampling> MixedSamplings(int32_t num_rows) {
  std::vector<SlotSampling> samplings(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    SlotSampling& sampling = samplings[i];
    sampling.seed = 77 * i;
    sampling.temperature = 0.4f + 0.3f * (i % 3);
    if (i % 3 != 1) sampling.top_p = 0.25f * (i % 4) + 0.05f;
    if (i % 5 == 2) sampling.min_p = 0.03f * (1 + i % 8);
    if (i % 8 == 3) sampling.top_k = 5;
    if (i % 11 == 7) sampling.num_logprobs = 2;
  }
  return samplings;
}

TEST(NucleusChoiceTest, RanksChooseWhatOneDeviceChoosesFromWholeRows) {
  const std::vector<SlotSampling> samplings = MixedSamplings(120);
  int64_t num_nuclei = 0;
  for (const SlotSampling& sampling : samplings) {
    num_nuclei +=
        (sampling.top_p < 1 || sampling.min_p > 0) && sampling.top_k <= 0;
  }
  ASSERT_GT(num_nuclei, 50);
  for (const int32_t world : {2, 4, 8}) {
    for (const int32_t vocab : {9, 97, 1211}) {
      if (ShardOf(vocab, world - 1, world).num_ids < 0) continue;
      EXPECT_TRUE(
          RanksChooseAsOne(world, vocab, samplings, BytesOf(num_nuclei)));
    }
  }
}

// More than there are threads in a warp.
TEST(NucleusChoiceTest, GroupsMayHaveManyRanks) {
  std::vector<SlotSampling> samplings(6);
  for (size_t i = 0; i < samplings.size(); ++i) {
    samplings[i].seed = i;
    samplings[i].top_p = 0.8f;
  }
  EXPECT_TRUE(RanksChooseAsOne(33, 97, samplings, BytesOf(6)));
}

TEST(NucleusChoiceTest, ManyRowsTravelInPieces) {
  std::vector<SlotSampling> samplings(1030);
  for (size_t i = 0; i < samplings.size(); ++i) {
    samplings[i].seed = i;
    samplings[i].top_p = 0.5f;
  }
  std::vector<int64_t> bytes = BytesOf(1024);  // of four ranks 8 MiB of bins
  const std::vector<int64_t> others = BytesOf(6);
  bytes.insert(bytes.end(), others.begin(), others.end());
  EXPECT_TRUE(RanksChooseAsOne(4, 50, samplings, bytes));
}

TEST(NucleusChoiceTest, WithoutSuchRowsNothingTravels) {
  std::vector<SlotSampling> samplings(4);
  samplings[1].top_k = 5;
  samplings[2].num_logprobs = 0;
  samplings[3].temperature = 0;
  samplings[3].top_p = 0.5f;
  EXPECT_TRUE(RanksChooseAsOne(2, 31, samplings, {}));
}

}  // namespace
}  // namespace quire
