// SPDX-License-Identifier: Apache-2.0
//
// What PagedManager finds again: prefixes, and what windows leave of them.
#include <vector>

#include "coordinator/kv/paged_manager.h"
#include "gtest/gtest.h"
#include "tests/coordinator/kv/paged_manager_world.h"

namespace quire {
namespace {

using PagedManagerCacheTest = PagedManagerWorld;

TEST_F(PagedManagerCacheTest, ASecondRequestSharesTheFullBlocksOfTheFirst) {
  Make(/*num_blocks=*/16);
  const Admitted first = Admit(0, Tokens(10));
  EXPECT_EQ(first.num_computed, 0);
  const KvReuse reuse = manager_->FindReusable(Admission(1, Tokens(11)));
  EXPECT_EQ(reuse.num_computed_tokens, 8);
  EXPECT_EQ(reuse.num_held_blocks, 2);
  const Admitted second = Admit(1, Tokens(11));
  EXPECT_EQ(second.num_computed, 8);
  EXPECT_EQ(second.blocks[0], first.blocks[0]);
  EXPECT_EQ(second.blocks[1], first.blocks[1]);
  EXPECT_NE(second.blocks[2], first.blocks[2]);
  ExpectFree(12, 0);
}

TEST_F(PagedManagerCacheTest, TheLastTokenIsAlwaysComputed) {
  Make(16);
  Admit(0, Tokens(8));
  EXPECT_EQ(Admit(1, Tokens(8)).num_computed, 4);
  EXPECT_EQ(Admit(2, Tokens(9)).num_computed, 8);
}

TEST_F(PagedManagerCacheTest, NobodySharesAcrossScopesOrInScopeZero) {
  Make(16);
  Admit(0, Tokens(9));
  EXPECT_EQ(Admit(1, Tokens(9), /*scope=*/8).num_computed, 0);
  EXPECT_EQ(Admit(2, Tokens(9), /*scope=*/0).num_computed, 0);
  EXPECT_EQ(Admit(3, Tokens(9), /*scope=*/0).num_computed, 0);
}

TEST_F(PagedManagerCacheTest, AnotherBeginningIsAnotherPrefix) {
  Make(16);
  Admit(0, Tokens(9));
  std::vector<TokenId> tokens = Tokens(9);
  tokens[0] = 1;  // the second block is equal
  EXPECT_EQ(Admit(1, tokens).num_computed, 0);
}

TEST_F(PagedManagerCacheTest, APrefixOutlivesItsSequence) {
  Make(16);
  const Admitted first = Admit(0, Tokens(10));
  manager_->Release(SlotId(0));
  ExpectFree(14, 2);
  EXPECT_EQ(manager_->FindReusable(Admission(1, Tokens(10))).num_held_blocks,
            0);
  const Admitted second = Admit(1, Tokens(10));
  EXPECT_EQ(second.num_computed, 8);
  EXPECT_EQ(second.blocks[0], first.blocks[0]);
  ExpectFree(13, 0);
}

TEST_F(PagedManagerCacheTest, CachedBlocksAreTakenFromTheTailWhenNoneIsFree) {
  Make(4);
  Admit(0, Tokens(12));
  manager_->Release(SlotId(0));
  ExpectFree(1, 3);
  Admit(1, Tokens(8, /*first=*/500), /*scope=*/0);
  ExpectFree(0, 2);
  EXPECT_EQ(
      manager_->FindReusable(Admission(2, Tokens(12))).num_computed_tokens, 8);
}

TEST_F(PagedManagerCacheTest, TheFirstOfTwoEqualBlocksIsKept) {
  Make(16);
  const Admitted first = Admit(0, Tokens(8));
  const Admitted second = Admit(1, Tokens(8));
  EXPECT_NE(first.blocks[1], second.blocks[1]);
  manager_->Release(SlotId(1));
  ExpectFree(14, 0);
  manager_->Release(SlotId(0));
  ExpectFree(14, 2);
}

TEST_F(PagedManagerCacheTest, AWriterInAPublishedBlockTakesItFromTheIndex) {
  Make(8);
  Admit(0, Tokens(8));
  manager_->Fork(SlotId(0), SlotId(1), /*num_tokens=*/6);
  manager_->Release(SlotId(0));
  // Sole holder, but others may ask for the block's other two tokens.
  EXPECT_TRUE(manager_->MustCopy(SlotId(1), 6));
  StepPlan plan;
  ASSERT_TRUE(manager_->Grow(SlotId(1), 6, 1, &plan).ok());
  EXPECT_EQ(plan, StepPlan());
  EXPECT_FALSE(manager_->MustCopy(SlotId(1), 7));
  EXPECT_EQ(manager_->FindReusable(Admission(2, Tokens(9))).num_computed_tokens,
            4);
}

TEST_F(PagedManagerCacheTest, BlocksBehindTheWindowComeBackAtOnce) {
  Make(8);
  const Admitted before = Admit(0, Tokens(15), /*scope=*/0);
  const uint64_t digest = manager_->table_digest();
  manager_->DropBefore(SlotId(0), 11);
  ExpectFree(6, 0);
  EXPECT_EQ(manager_->NumBlocks(SlotId(0)), 4);
  EXPECT_EQ(manager_->NumPrivateBlocks({SlotId(0)}), 2);
  EXPECT_EQ(manager_->table_digest(), digest);
  manager_->DropBefore(SlotId(0), 9);  // it never comes back
  ExpectFree(6, 0);
  Park(0, 15, ParkMode::kRetain);
  ExpectFree(6, 2);
  EXPECT_EQ(
      manager_->FindReusable(Admission(0, Tokens(16), 0)).num_computed_tokens,
      15);
  const Admitted after = Admit(0, Tokens(16), /*scope=*/0);
  EXPECT_EQ(after.num_computed, 15);
  EXPECT_EQ(after.blocks[2], before.blocks[2]);
  EXPECT_EQ(after.blocks.size(), 4);
  ExpectFree(6, 0);
}

TEST_F(PagedManagerCacheTest, BehindAWindowThereIsNoPartialReturn) {
  Make(4);
  Admit(0, Tokens(16), /*scope=*/0);
  manager_->DropBefore(SlotId(0), 8);
  Park(0, 16, ParkMode::kRetain);
  Admit(1, Tokens(12, 500), /*scope=*/0);  // takes one of the two
  manager_->Release(SlotId(1));
  EXPECT_EQ(Admit(0, Tokens(17), /*scope=*/0).status.code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(
      manager_->FindReusable(Admission(0, Tokens(17), 0)).num_computed_tokens,
      0);
}

TEST_F(PagedManagerCacheTest, APrefixNeedsOnlyTheBlocksOfItsLastWindow) {
  Make(5);
  Admit(0, Tokens(20));  // the whole pool
  manager_->DropBefore(SlotId(0), 12);
  manager_->Release(SlotId(0));
  ExpectFree(0, 5);
  // What was dropped first goes first: the last of the first three blocks.
  Admit(1, Tokens(4, 500), /*scope=*/0);
  manager_->Release(SlotId(1));
  const std::vector<TokenId> tokens = Tokens(21);
  KvAdmission again = Admission(2, tokens);
  EXPECT_EQ(manager_->FindReusable(again).num_computed_tokens, 8);
  again.window = 9;  // of 20 tokens sees the block that is gone
  EXPECT_EQ(manager_->FindReusable(again).num_computed_tokens, 20);
  again.window = 10;
  EXPECT_EQ(manager_->FindReusable(again).num_computed_tokens, 8);
  again.window = 6;
  again.num_new_tokens = 1;
  const KvReuse reuse = manager_->FindReusable(again);
  EXPECT_EQ(reuse.num_computed_tokens, 20);
  EXPECT_EQ(reuse.num_held_blocks, 3);  // nobody's, but they cost nothing
  AdmittedSlot admitted;
  StepPlan plan;
  ASSERT_TRUE(manager_->Admit(SlotId(2), again, &admitted, &plan).ok());
  EXPECT_EQ(admitted.num_computed_tokens, 20);
  EXPECT_EQ(manager_->NumBlocks(SlotId(2)), 6);
  EXPECT_EQ(manager_->NumPrivateBlocks({SlotId(2)}), 3);
  EXPECT_EQ(manager_->Usage().num_held, 3);
}

TEST_F(PagedManagerCacheTest, ForgettingAllLeavesOnlyWhatIsHeld) {
  Make(8, /*num_host_blocks=*/4, /*demote_prefixes=*/true);
  Admit(0, Tokens(16));
  Park(0, 16, ParkMode::kSwap);
  Admit(1, Tokens(24, 500));
  manager_->ForgetAll();
  ExpectFree(2, 0);
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 4);
  EXPECT_EQ(
      manager_->FindReusable(Admission(2, Tokens(25, 500))).num_computed_tokens,
      0);
}

}  // namespace
}  // namespace quire
