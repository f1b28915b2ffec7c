// SPDX-License-Identifier: Apache-2.0
//
// What PagedManager keeps of preempted sequences, on the device and the host,
// and what prefixes that move to the host leave them.
#include <vector>

#include "coordinator/kv/paged_manager.h"
#include "gtest/gtest.h"
#include "tests/coordinator/kv/paged_manager_world.h"

namespace quire {
namespace {

using PagedManagerParkedTest = PagedManagerWorld;

TEST_F(PagedManagerParkedTest, WhatAParkedSequenceLeftIsFoundToTheToken) {
  for (ParkMode mode : {ParkMode::kRetain, ParkMode::kSwap}) {
    Make(16);
    const Admitted before = Admit(0, Tokens(10), /*scope=*/0);
    Park(0, 10, mode);
    ExpectFree(13, 3);
    EXPECT_EQ(
        manager_->FindReusable(Admission(0, Tokens(11), 0)).num_computed_tokens,
        10);
    const Admitted after = Admit(0, Tokens(11), /*scope=*/0);
    EXPECT_EQ(after.num_computed, 10);
    EXPECT_EQ(after.blocks, before.blocks);
    EXPECT_EQ(after.plan, StepPlan());
    ExpectFree(13, 0);
  }
}

TEST_F(PagedManagerParkedTest, DroppingLeavesNothing) {
  Make(16);
  Admit(0, Tokens(10), /*scope=*/0);
  Park(0, 10, ParkMode::kDrop);
  ExpectFree(16, 0);
  EXPECT_EQ(Admit(0, Tokens(11), /*scope=*/0).num_computed, 0);
}

TEST_F(PagedManagerParkedTest, RetainedBlocksAreLostFromTheTail) {
  Make(4);
  Admit(0, Tokens(14), /*scope=*/0);
  Park(0, 14, ParkMode::kRetain);
  EXPECT_TRUE(Admit(1, Tokens(6, 500), /*scope=*/0).plan.swap_outs.empty());
  manager_->Release(SlotId(1));
  ExpectFree(2, 2);
  EXPECT_EQ(Admit(0, Tokens(15), /*scope=*/0).num_computed, 8);
}

TEST_F(PagedManagerParkedTest, OnlyWhatIsNeededIsSwappedOut) {
  Make(4, /*num_host_blocks=*/4);
  const Admitted before = Admit(0, Tokens(14), /*scope=*/0);
  Park(0, 14, ParkMode::kSwap);
  const Admitted other = Admit(1, Tokens(6, 500), /*scope=*/0);
  ASSERT_EQ(other.plan.swap_outs.size(), 2);
  EXPECT_EQ(other.plan.swap_outs[0].device, before.blocks[3]);
  EXPECT_EQ(other.plan.swap_outs[1].device, before.blocks[2]);
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 2);
  // It would not fit beside the other; nothing changes.
  const Admitted refused = Admit(0, Tokens(15), /*scope=*/0);
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.plan, StepPlan());
  manager_->Release(SlotId(1));
  const Admitted after = Admit(0, Tokens(15), /*scope=*/0);
  EXPECT_EQ(after.num_computed, 14);
  EXPECT_TRUE(after.plan.swap_outs.empty());
  ASSERT_EQ(after.plan.swap_ins.size(), 2);
  EXPECT_EQ(after.plan.swap_ins[0].host, other.plan.swap_outs[1].host);
  EXPECT_EQ(after.plan.swap_ins[0].device, after.blocks[2]);
  EXPECT_EQ(after.plan.swap_ins[1].host, other.plan.swap_outs[0].host);
  EXPECT_EQ(after.plan.swap_ins[1].device, after.blocks[3]);
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 4);
}

TEST_F(PagedManagerParkedTest, AHostBlockThatAPlanReadsIsNotWrittenByIt) {
  Make(4, /*num_host_blocks=*/1);
  Admit(0, Tokens(4), /*scope=*/0);
  Park(0, 4, ParkMode::kSwap);
  Admit(1, Tokens(16, 500), /*scope=*/0);  // moves the one to the host
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 0);
  Park(1, 16, ParkMode::kSwap);
  // Its one block comes back; what makes room for it finds the host full.
  const Admitted back = Admit(0, Tokens(5), /*scope=*/0);
  ASSERT_TRUE(back.status.ok());
  EXPECT_EQ(back.num_computed, 4);
  ASSERT_EQ(back.plan.swap_ins.size(), 1);
  EXPECT_TRUE(back.plan.swap_outs.empty());
  manager_->Forget(SequenceId(1));
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 1);
}

TEST_F(PagedManagerParkedTest, AFullHostKeepsTheHeadRatherThanTheTail) {
  Make(4, /*num_host_blocks=*/2);
  const Admitted before = Admit(0, Tokens(16), /*scope=*/0);
  Park(0, 16, ParkMode::kSwap);
  const Admitted other = Admit(1, Tokens(16, 500), /*scope=*/0);
  // Within the plan each host block is written once, with what came last.
  ASSERT_EQ(other.plan.swap_outs.size(), 2);
  EXPECT_EQ(other.plan.swap_outs[0].device, before.blocks[1]);
  EXPECT_EQ(other.plan.swap_outs[1].device, before.blocks[0]);
  manager_->Release(SlotId(1));
  const Admitted after = Admit(0, Tokens(16), /*scope=*/0);
  EXPECT_EQ(after.num_computed, 8);
  EXPECT_EQ(after.plan.swap_ins.size(), 2);
}

TEST_F(PagedManagerParkedTest, SiblingsMoveTheirSharedBlocksOnce) {
  Make(6, /*num_host_blocks=*/8);
  Admit(0, Tokens(10), /*scope=*/0);
  manager_->Fork(SlotId(0), SlotId(1), 10);
  Park(0, 10, ParkMode::kSwap);
  Park(1, 10, ParkMode::kSwap);
  ExpectFree(3, 3);
  EXPECT_EQ(Admit(2, Tokens(24, 500), /*scope=*/0).plan.swap_outs.size(), 3);
  manager_->Release(SlotId(2));
  const Admitted parent = Admit(0, Tokens(11), /*scope=*/0);
  EXPECT_EQ(parent.num_computed, 10);
  EXPECT_EQ(parent.plan.swap_ins.size(), 3);
  const KvReuse reuse =
      manager_->FindReusable(Admission(1, Tokens(11), /*scope=*/0));
  EXPECT_EQ(reuse.num_computed_tokens, 10);
  EXPECT_EQ(reuse.num_held_blocks, 2);  // the third is to be copied
  const Admitted child = Admit(1, Tokens(11), /*scope=*/0);
  EXPECT_EQ(child.num_computed, 10);
  EXPECT_TRUE(child.plan.swap_ins.empty());
  ASSERT_EQ(child.plan.copies.size(), 1);
  EXPECT_EQ(child.plan.copies[0].src, parent.blocks[2]);
  EXPECT_EQ(child.plan.copies[0].dst, child.blocks[2]);
  EXPECT_EQ(child.blocks[0], parent.blocks[0]);
}

TEST_F(PagedManagerParkedTest, ForgettingGivesBackBothPools) {
  Make(4, /*num_host_blocks=*/4);
  Admit(0, Tokens(14), /*scope=*/0);
  Park(0, 14, ParkMode::kSwap);
  Admit(1, Tokens(6, 500), /*scope=*/0);
  manager_->Forget(SequenceId(0));
  ExpectFree(2, 0);
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 4);
  manager_->Forget(SequenceId(0));  // not parked: nothing
}

TEST_F(PagedManagerParkedTest, AForgottenSequencesPrefixesStay) {
  Make(8);
  Admit(0, Tokens(10));
  Park(0, 10, ParkMode::kRetain);
  ExpectFree(5, 3);
  manager_->Forget(SequenceId(0));
  ExpectFree(6, 2);
  EXPECT_EQ(Admit(1, Tokens(10)).num_computed, 8);
}

TEST_F(PagedManagerParkedTest, ParkedBlocksOutliveMerePrefixes) {
  Make(4);
  Admit(0, Tokens(8), /*scope=*/0);
  Park(0, 8, ParkMode::kRetain);
  Admit(1, Tokens(8, 500));
  manager_->Release(SlotId(1));  // cached later, but perhaps for nothing
  Admit(2, Tokens(8, 900), /*scope=*/0);
  manager_->Release(SlotId(2));
  EXPECT_EQ(Admit(0, Tokens(9), /*scope=*/0).num_computed, 8);
}

TEST_F(PagedManagerParkedTest, EvictedPrefixesMoveToTheHostIfAsked) {
  for (bool demote : {false, true}) {
    Make(4, /*num_host_blocks=*/4, demote);
    Admit(0, Tokens(12));
    manager_->Release(SlotId(0));
    const Admitted other = Admit(1, Tokens(16, 500), /*scope=*/0);
    EXPECT_EQ(other.plan.swap_outs.size(), demote ? 3 : 0);
    manager_->Release(SlotId(1));
    const Admitted again = Admit(2, Tokens(13));
    EXPECT_EQ(again.num_computed, demote ? 12 : 0);
    EXPECT_EQ(again.plan.swap_ins.size(), demote ? 3 : 0);
  }
}

TEST_F(PagedManagerParkedTest, DemotedPrefixesMakeRoomForParkedBlocks) {
  Make(2, /*num_host_blocks=*/2, /*demote_prefixes=*/true);
  Admit(0, Tokens(8));
  manager_->Release(SlotId(0));
  Admit(1, Tokens(8, 500), /*scope=*/0);  // the prefix moves out
  Park(1, 8, ParkMode::kSwap);
  Admit(2, Tokens(8, 900), /*scope=*/0);  // the parked one does, over it
  manager_->Release(SlotId(2));
  EXPECT_EQ(manager_->FindReusable(Admission(0, Tokens(9))).num_computed_tokens,
            0);
  EXPECT_EQ(manager_->FindReusable(Admission(1, Tokens(9, 500), 0))
                .num_computed_tokens,
            8);
}

TEST_F(PagedManagerParkedTest, DemotedPrefixesTakeNoRoomFromParkedBlocks) {
  Make(2, /*num_host_blocks=*/3, /*demote_prefixes=*/true);
  Admit(0, Tokens(8), /*scope=*/0);
  Park(0, 8, ParkMode::kSwap);
  Admit(1, Tokens(8, 500));  // the parked one moves out
  manager_->Release(SlotId(1));
  EXPECT_EQ(manager_->Usage().num_host_prefix_blocks, 0);
  Admit(2, Tokens(8, 900), /*scope=*/0);  // one block of the prefix finds room
  manager_->Release(SlotId(2));
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 0);
  EXPECT_EQ(manager_->Usage().num_host_prefix_blocks, 1);
  EXPECT_EQ(
      manager_->FindReusable(Admission(0, Tokens(9), 0)).num_computed_tokens,
      8);
  // Of a prefix the tail went first, and the head over it.
  EXPECT_EQ(
      manager_->FindReusable(Admission(3, Tokens(9, 500))).num_computed_tokens,
      4);
}

TEST_F(PagedManagerParkedTest, ADemotedPrefixThatIsComputedAgainLeavesTheHost) {
  Make(4, /*num_host_blocks=*/4, /*demote_prefixes=*/true);
  Admit(0, Tokens(8));
  manager_->Release(SlotId(0));
  Admit(1, Tokens(16, 500), /*scope=*/0);
  manager_->Release(SlotId(1));
  EXPECT_EQ(manager_->Usage().num_host_prefix_blocks, 2);
  // Of its own last block only the copy on the device is kept.
  EXPECT_EQ(Admit(2, Tokens(8)).num_computed, 4);
  EXPECT_EQ(manager_->Usage().num_host_prefix_blocks, 0);
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 4);
}

}  // namespace
}  // namespace quire
