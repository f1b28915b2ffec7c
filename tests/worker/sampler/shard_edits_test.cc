// SPDX-License-Identifier: Apache-2.0
//
// Edited rows by all that ranks choose with, in the order of the executor.
#include "worker/sampler/shard_edits.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/listed_choice.h"
#include "tests/worker/sampler/group_rank.h"
#include "worker/sampler/plain_row.h"

namespace quire {
namespace {

void AddEdits(int32_t i, int32_t vocab, SlotSampling* sampling) {
  if (i % 4 == 1) sampling->presence_penalty = 1.5f;
  if (i % 5 == 2) sampling->frequency_penalty = i % 2 == 0 ? 0.75f : -0.5f;
  if (i % 7 == 3) sampling->repetition_penalty = 1.5f;
  if (i % 8 >= 6) {
    // Ids of the first and the last shard, and one that no shard has.
    sampling->logit_bias = {{0, 2.0f}, {vocab - 1, 2.5f}, {vocab, 9.0f}};
  }
}

// Every edit with every filter, greedy ones and plain ones among them.
std::vector<SlotSampling> MixedSamplings(int32_t num_rows, int32_t vocab) {
  std::vector<SlotSampling> samplings(num_rows);
  for (int32_t i = 0; i < num_rows; ++i) {
    SlotSampling& sampling = samplings[i];
    sampling.seed = 31 * i;
    sampling.temperature = i % 8 == 5 ? 0 : 0.4f + 0.3f * (i % 3);
    if (i % 3 == 1) sampling.top_k = 1 + i % 30;
    if (i % 3 == 2) sampling.top_p = 0.2f + 0.1f * (i % 7);
    if (i % 11 == 3) sampling.min_p = 0.05f;
    if (i % 19 == 7) sampling.top_k = kMaxListed + 1;
    AddEdits(i, vocab, &sampling);
    if (i % 13 == 6) sampling.num_logprobs = 1;
    if (i % 17 == 8) sampling.bad_words = {{2}, {vocab - 2}};
    if (i % 12 == 10) {
      for (TokenId id = i % 5; id < vocab; id += 3) {
        sampling.allowed_token_ids.push_back(id);
      }
    }
    // Masked at first, not later.
    if (i % 9 == 4) {
      sampling.min_tokens = 1 + i % 5;
      sampling.stop_token_ids = {1, 3, 5};
    }
  }
  return samplings;
}

TEST(ShardEditsTest, RanksChooseStepAfterStepWhatOneDeviceChooses) {
  for (const int32_t world : {2, 4, 8}) {
    for (const int32_t vocab : {9, 97, 211}) {
      if (ShardOf(vocab, world - 1, world).num_ids < 0) continue;
      const auto samplings = MixedSamplings(160, vocab);
      const SlotStates states = States(samplings, vocab);
      int num_unfiltered = 0, num_listed = 0, num_nuclei = 0;
      for (const SlotId slot_id : SlotsOf(samplings)) {
        const Slot& slot = states.slot(slot_id);
        if (!IsEditedRow(slot)) continue;
        ++(IsListedRow(slot)    ? num_listed
           : IsNucleusRow(slot) ? num_nuclei
                                : num_unfiltered);
      }
      ASSERT_GT(std::min({num_unfiltered, num_listed, num_nuclei}), 10);
      ExpectStepsAsByOne(world, vocab, samplings);
    }
  }
}

// Its counts go on, and rows without penalties become plain.
TEST(ShardEditsTest, MasksMayEndInTheMiddle) {
  std::vector<SlotSampling> samplings(12);
  for (int32_t i = 0; i < 12; ++i) {
    samplings[i].seed = i;
    samplings[i].temperature = i % 4 == 3 ? 0 : 1;
    if (i % 3 > 0) samplings[i].frequency_penalty = 3;
    if (i % 3 > 0) samplings[i].repetition_penalty = 2;
    if (i % 4 == 1) samplings[i].top_k = 4;
    if (i % 4 == 2) samplings[i].top_p = 0.5f;
    samplings[i].min_tokens = i / 2;
    samplings[i].stop_token_ids = {4};
  }
  ExpectStepsAsByOne(2, 23, samplings);
  ExpectStepsAsByOne(4, 23, samplings);
}

// Looked at in all shards, of which some have nothing else, or nothing at all.
TEST(ShardEditsTest, MasksArePassedOverWhereNothingElseIsLeft) {
  for (const int32_t world : {1, 2, 3, 8, 33}) {
    for (const int32_t vocab : {4, 9, 64, 97}) {
      if (ShardOf(vocab, world - 1, world).num_ids < 0) continue;
      std::vector<SlotSampling> samplings(48);
      for (int32_t i = 0; i < 48; ++i) {
        SlotSampling& sampling = samplings[i];
        sampling.seed = i;
        sampling.num_logprobs = i % 3 - 1;
        if (i % 4 == 1) sampling.top_k = 3;
        if (i % 4 == 2) sampling.top_p = 0.9f;
        if (i % 4 == 3) sampling.temperature = 0;
        const TokenId last = vocab - 1;
        switch (i / 4 % 6) {
          case 0:  // all but the last shard's last
            for (TokenId id = 0; id < last; ++id) {
              sampling.bad_words.push_back({id});
            }
            break;
          case 1:  // all
            sampling.min_tokens = 5;
            for (TokenId id = 0; id < vocab; ++id) {
              sampling.stop_token_ids.push_back(id);
            }
            break;
          case 2:  // all that are allowed
            sampling.allowed_token_ids = {1, last};
            sampling.bad_words = {{1}, {last}};
            break;
          case 3:  // but one
            sampling.allowed_token_ids = {0, 1, last};
            sampling.bad_words = {{1}, {0}};
            break;
          case 4:  // one that a penalty makes unlikely
            sampling.presence_penalty = 2;
            sampling.logit_bias = {{last, -90.0f}, {0, 3.0f}};
            sampling.bad_words = {{0}};
            break;
          case 5:  // nothing but allowed ids
            sampling.allowed_token_ids = {2};
            break;
        }
      }
      ExpectStepsAsByOne(world, vocab, samplings);
    }
  }
}

// Not a number, infinite, none left: with edits, too.
TEST(ShardEditsTest, WhatCannotBeChosenIsNamed) {
  constexpr int32_t kVocab = 53;
  std::vector<SlotSampling> samplings(60);
  for (int32_t i = 0; i < 60; ++i) {
    samplings[i].seed = i;
    samplings[i].presence_penalty = 1;
    samplings[i].logit_bias = {{0, -1.0f}, {kVocab - 1, 1.0f}};
    if (i % 3 == 1) samplings[i].top_k = 9;
    if (i % 3 == 2) samplings[i].top_p = 0.5f;
    // Ids that MixedLogits() makes impossible, or not finite.
    if (i % 4 == 1) samplings[i].bad_words = {{0}, {4}, {8}, {kVocab - 1}};
    if (i % 5 == 2) samplings[i].allowed_token_ids = {0, 1, 2, 3, 5};
  }
  // Too large for its temperature, once it is raised.
  samplings[7].temperature = samplings[8].temperature = 2e-5f;
  samplings[7].logit_bias = samplings[8].logit_bias = {{50, 1e34f}};
  const std::vector<float> logits = MixedLogits(60, kVocab);
  const SlotStates states = States(samplings, kVocab);
  const std::vector<SlotId> slots = SlotsOf(samplings);
  const auto want = Expected(
      logits, kVocab, states, slots,
      +[](const Slot& slot) { return IsEditedRow(slot); });
  for (const ChoiceError error :
       {kNoToken, kLogitsNotFinite, kLogitsOverflow}) {
    EXPECT_NE(std::find(want.begin(), want.end(), error), want.end()) << error;
  }
  LocalGroup group(4);
  std::vector<std::thread> ranks;
  for (int32_t i = 0; i < 4; ++i) {
    ranks.emplace_back([&, i] {
      GroupRank rank(group.collective(i), kVocab, 60);
      EXPECT_EQ(rank.Choose(logits, states, slots, /*flight=*/0), want);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

// What ranks gather of rows from the first to the last that is chosen anew;
// nothing where no row is edited.
TEST(ShardEditsTest, ChoicesTravelAndNoLogits) {
  constexpr int32_t kVocab = 31;
  std::vector<SlotSampling> samplings(9);
  const auto gathered = [&] {
    std::vector<int64_t> bytes;
    LocalGroup group(2);
    std::vector<std::thread> ranks;
    for (int32_t i = 0; i < 2; ++i) {
      ranks.emplace_back([&, i] {
        GroupRank rank(group.collective(i), kVocab, 9);
        const size_t before = rank.collective().gathered().size();
        const int64_t allocated = rank.backend().allocated_bytes();
        rank.Choose(LogitsOf(0, 9, kVocab), States(samplings, kVocab),
                    SlotsOf(samplings), /*flight=*/0);
        if (samplings[5].presence_penalty == 0) {
          EXPECT_EQ(rank.backend().allocated_bytes(), allocated);
        }
        if (i == 0) {
          const auto& all = rank.collective().gathered();
          bytes.assign(all.begin() + before, all.end());
        }
      });
    }
    for (std::thread& rank : ranks) rank.join();
    return bytes;
  };
  EXPECT_EQ(gathered(), std::vector<int64_t>{});
  samplings[6].logit_bias = {{3, 1.0f}};
  EXPECT_EQ(gathered(), std::vector<int64_t>{sizeof(ShardChoice)});
  samplings[2].logit_bias = {{3, 1.0f}};
  EXPECT_EQ(gathered(), std::vector<int64_t>{5 * sizeof(ShardChoice)});
  samplings[5].presence_penalty = 1;
  samplings[6].top_k = samplings[5].top_k = 5;
  EXPECT_EQ(gathered(), (std::vector<int64_t>{sizeof(ShardChoice),
                                              2 * 6 * sizeof(ListedToken)}));
  // Of allowed ids nothing, of masks a word for each edited row.
  samplings[6].allowed_token_ids = {1, 5, 30};
  EXPECT_EQ(gathered(), (std::vector<int64_t>{sizeof(ShardChoice),
                                              2 * 6 * sizeof(ListedToken)}));
  samplings[5].bad_words = {{3}};
  EXPECT_EQ(gathered(),
            (std::vector<int64_t>{3 * sizeof(int32_t), sizeof(ShardChoice),
                                  2 * 6 * sizeof(ListedToken)}));
}

}  // namespace
}  // namespace quire
