// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/parked_sequences.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ParkedSequencesTest, ABlockLivesAsLongAsItsNotes) {
  ParkedSequences parked;
  const ParkedBlockId block =
      parked.AddBlock(BlockPlace(BlockId(3)), /*num_rows=*/2, false);
  parked.AddNote(block, /*num_rows=*/4, true);
  EXPECT_EQ(parked.num_rows(block), 4);
  EXPECT_TRUE(parked.may_swap(block));
  EXPECT_FALSE(parked.DropNote(block));
  EXPECT_EQ(parked.place(block), BlockPlace(BlockId(3)));
  EXPECT_TRUE(parked.DropNote(block));
  EXPECT_EQ(parked.num_notes(block), 0);
  // Its number serves again.
  EXPECT_EQ(parked.AddBlock(BlockPlace(BlockId(1)), 1, false), block);
}

TEST(ParkedSequencesTest, AllNotesOfABlockFollowItsContents) {
  ParkedSequences parked;
  const ParkedBlockId block = parked.AddBlock(BlockPlace(BlockId(3)), 4, true);
  parked.AddNote(block, 4, true);
  parked.Insert(SequenceId(1), {.num_computed = 4, .blocks = {block}});
  parked.Insert(SequenceId(2), {.num_computed = 4, .blocks = {block}});
  parked.SetPlace(block, BlockPlace(HostBlockId(9)));
  for (uint64_t id : {1, 2}) {
    const ParkedBlockId noted = parked.Find(SequenceId(id))->blocks[0];
    EXPECT_EQ(parked.place(noted), BlockPlace(HostBlockId(9)));
  }
}

TEST(ParkedSequencesTest, WhatIsTakenIsParkedNoMore) {
  ParkedSequences parked;
  parked.Insert(SequenceId(7), {.num_computed = 5, .blocks = {}});
  EXPECT_EQ(parked.Take(SequenceId(7)).num_computed, 5);
  EXPECT_EQ(parked.Find(SequenceId(7)), nullptr);
}

TEST(ParkedSequencesDeathTest, NobodyIsParkedTwice) {
  ParkedSequences parked;
  parked.Insert(SequenceId(7), {});
  EXPECT_DEATH(parked.Insert(SequenceId(7), {}), "is parked already");
  EXPECT_DEATH(parked.Take(SequenceId(8)), "is not parked");
}

}  // namespace
}  // namespace quire
