// SPDX-License-Identifier: Apache-2.0
//
// What PagedManager finds again: prefixes, and what preempted sequences left.
#include <memory>
#include <numeric>
#include <variant>
#include <vector>

#include "coordinator/kv/paged_manager.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;
constexpr CacheScope kScope = 7;

std::vector<TokenId> Tokens(int32_t n, TokenId first = 100) {
  std::vector<TokenId> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

struct Admitted {
  absl::Status status;
  int32_t num_computed = 0;
  std::vector<BlockId> blocks;
  StepPlan plan;
};

// A manager whose sequences have the slot's number.
class PagedManagerCacheTest : public testing::Test {
 protected:
  void Make(int32_t num_blocks, int32_t num_host_blocks = 0,
            bool demote_prefixes = false) {
    manager_ = std::make_unique<PagedManager>(
        KvOptions{.num_blocks = num_blocks,
                  .block_size = kBlockSize,
                  .max_num_seqs = 8,
                  .max_model_len = 256,
                  .num_host_blocks = num_host_blocks,
                  .demote_prefixes = demote_prefixes,
                  .prefix_hash_key = {1, 2}});
  }
  void TearDown() override {
    EXPECT_EQ(manager_->CheckInvariants(), absl::OkStatus());
  }

  KvAdmission Admission(int32_t slot, const std::vector<TokenId>& tokens,
                        CacheScope scope = kScope) const {
    return {.sequence_id = SequenceId(slot),
            .tokens = tokens,
            .num_new_tokens = static_cast<int32_t>(tokens.size()),
            .max_num_tokens = 256,
            .scope = scope};
  }
  // Computes all the tokens and publishes them.
  Admitted Admit(int32_t slot, const std::vector<TokenId>& tokens,
                 CacheScope scope = kScope) {
    Admitted result;
    AdmittedSlot admitted;
    result.status = manager_->Admit(
        SlotId(slot), Admission(slot, tokens, scope), &admitted, &result.plan);
    if (!result.status.ok()) return result;
    result.num_computed = admitted.num_computed_tokens;
    result.blocks = std::get<std::vector<BlockId>>(admitted.cache);
    manager_->Publish(SlotId(slot), tokens,
                      static_cast<int32_t>(tokens.size()));
    return result;
  }
  void Park(int32_t slot, int32_t num_computed, ParkMode mode) {
    manager_->Park(SlotId(slot), SequenceId(slot), num_computed, mode);
  }
  void ExpectFree(int32_t num_free, int32_t num_cached) {
    EXPECT_EQ(manager_->Usage().num_free, num_free);
    EXPECT_EQ(manager_->Usage().num_cached, num_cached);
  }

  std::unique_ptr<PagedManager> manager_;
};

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

TEST_F(PagedManagerCacheTest, WhatAParkedSequenceLeftIsFoundToTheToken) {
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

TEST_F(PagedManagerCacheTest, DroppingLeavesNothing) {
  Make(16);
  Admit(0, Tokens(10), /*scope=*/0);
  Park(0, 10, ParkMode::kDrop);
  ExpectFree(16, 0);
  EXPECT_EQ(Admit(0, Tokens(11), /*scope=*/0).num_computed, 0);
}

TEST_F(PagedManagerCacheTest, RetainedBlocksAreLostFromTheTail) {
  Make(4);
  Admit(0, Tokens(14), /*scope=*/0);
  Park(0, 14, ParkMode::kRetain);
  EXPECT_TRUE(Admit(1, Tokens(6, 500), /*scope=*/0).plan.swap_outs.empty());
  manager_->Release(SlotId(1));
  ExpectFree(2, 2);
  EXPECT_EQ(Admit(0, Tokens(15), /*scope=*/0).num_computed, 8);
}

TEST_F(PagedManagerCacheTest, OnlyWhatIsNeededIsSwappedOut) {
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

TEST_F(PagedManagerCacheTest, AHostBlockThatAPlanReadsIsNotWrittenByIt) {
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

TEST_F(PagedManagerCacheTest, AFullHostKeepsTheHeadRatherThanTheTail) {
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

TEST_F(PagedManagerCacheTest, SiblingsMoveTheirSharedBlocksOnce) {
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

TEST_F(PagedManagerCacheTest, ForgettingGivesBackBothPools) {
  Make(4, /*num_host_blocks=*/4);
  Admit(0, Tokens(14), /*scope=*/0);
  Park(0, 14, ParkMode::kSwap);
  Admit(1, Tokens(6, 500), /*scope=*/0);
  manager_->Forget(SequenceId(0));
  ExpectFree(2, 0);
  EXPECT_EQ(manager_->Usage().num_free_host_blocks, 4);
  manager_->Forget(SequenceId(0));  // not parked: nothing
}

TEST_F(PagedManagerCacheTest, AForgottenSequencesPrefixesStay) {
  Make(8);
  Admit(0, Tokens(10));
  Park(0, 10, ParkMode::kRetain);
  ExpectFree(5, 3);
  manager_->Forget(SequenceId(0));
  ExpectFree(6, 2);
  EXPECT_EQ(Admit(1, Tokens(10)).num_computed, 8);
}

TEST_F(PagedManagerCacheTest, ParkedBlocksOutliveMerePrefixes) {
  Make(4);
  Admit(0, Tokens(8), /*scope=*/0);
  Park(0, 8, ParkMode::kRetain);
  Admit(1, Tokens(8, 500));
  manager_->Release(SlotId(1));  // cached later, but perhaps for nothing
  Admit(2, Tokens(8, 900), /*scope=*/0);
  manager_->Release(SlotId(2));
  EXPECT_EQ(Admit(0, Tokens(9), /*scope=*/0).num_computed, 8);
}

TEST_F(PagedManagerCacheTest, EvictedPrefixesMoveToTheHostIfAsked) {
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

TEST_F(PagedManagerCacheTest, DemotedPrefixesMakeRoomForParkedBlocks) {
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

TEST_F(PagedManagerCacheTest, DemotedPrefixesTakeNoRoomFromParkedBlocks) {
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

TEST_F(PagedManagerCacheTest, ADemotedPrefixThatIsComputedAgainLeavesTheHost) {
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
