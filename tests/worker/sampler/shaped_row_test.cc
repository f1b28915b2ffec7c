// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/shaped_row.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// After two tokens of output.
Slot SlotOf(const SlotSampling& sampling) {
  Slot slot;
  slot.tokens = {1, 2, 3};
  slot.num_prompt = 1;
  slot.sampling = sampling;
  return slot;
}

TEST(EditRowTest, ListsFollowThoseOfOtherRows) {
  EditLists lists;
  lists.biases = {{9, 1.0f}};
  lists.masked = {7, 8};
  lists.allowed = {1, 2, 3};
  SlotSampling sampling;
  sampling.logit_bias = {{4, 0.5f}, {5, 1.5f}};
  sampling.bad_words = {{6}, {3}};
  Slot slot = SlotOf(sampling);
  slot.allowed = {0xf0, 0x1};
  const EditRow edit = EditRowOf(/*row=*/11, SlotId(5), slot, &lists);
  EXPECT_EQ(edit.row, 11);
  EXPECT_EQ(edit.slot, 5);
  EXPECT_EQ(edit.first_bias, 1);
  EXPECT_EQ(edit.num_biases, 2);
  EXPECT_EQ(lists.biases[2].token_id, 5);
  EXPECT_EQ(edit.first_masked, 2);
  EXPECT_EQ(edit.num_masked, 2);
  EXPECT_EQ(lists.masked, (std::vector<int32_t>{7, 8, 6, 3}));
  EXPECT_EQ(edit.first_allowed, 3);
  EXPECT_EQ(edit.num_allowed_words, 2);
  EXPECT_EQ(lists.allowed, (std::vector<uint32_t>{1, 2, 3, 0xf0, 0x1}));
  EXPECT_EQ(edit.first_saved, -1);
  EXPECT_FALSE(edit.is_penalised);
  lists.Clear();
  EXPECT_EQ(lists.biases.size() + lists.masked.size() + lists.allowed.size(),
            0u);
}

TEST(EditRowTest, StopTokensAreMaskedUntilThereAreEnough) {
  SlotSampling sampling;
  sampling.stop_token_ids = {4, 6};
  for (const int32_t min_tokens : {0, 2, 3}) {
    sampling.min_tokens = min_tokens;
    EditLists lists;
    const EditRow edit = EditRowOf(0, SlotId(0), SlotOf(sampling), &lists);
    EXPECT_EQ(edit.num_masked, min_tokens == 3 ? 2 : 0) << min_tokens;
    EXPECT_EQ(edit.first_allowed, -1);
  }
}

TEST(EditRowTest, KeepsWhatListsNameOrAllColumns) {
  SlotSampling sampling;
  sampling.logit_bias = {{4, 0.5f}};
  sampling.bad_words = {{6}, {3}};
  EditLists lists;
  int64_t num_saved = 10;
  Slot slot = SlotOf(sampling);
  EditRow edit = EditRowOf(0, SlotId(0), slot, &lists);
  SaveLogits(slot, /*num_restricted=*/0, &edit, &num_saved);
  EXPECT_EQ(edit.first_saved, 10);
  EXPECT_EQ(num_saved, 13);
  // Its three tokens.
  slot.sampling.presence_penalty = 1;
  edit = EditRowOf(0, SlotId(0), slot, &lists);
  SaveLogits(slot, /*num_restricted=*/0, &edit, &num_saved);
  EXPECT_EQ(edit.first_saved, 13);
  EXPECT_EQ(num_saved, 19);
  SaveLogits(slot, /*num_restricted=*/100, &edit, &num_saved);
  EXPECT_EQ(num_saved, 119);
}

}  // namespace
}  // namespace quire
