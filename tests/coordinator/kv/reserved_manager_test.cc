// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/reserved_manager.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <variant>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

KvOptions Options(int32_t num_blocks, int32_t max_model_len = 64) {
  return {.num_blocks = num_blocks,
          .block_size = 4,
          .max_num_seqs = 8,
          .max_model_len = max_model_len,
          .num_host_blocks = 0};
}

// Admits a sequence of `num_tokens` that may become `max_num_tokens` long.
absl::Status Admit(ReservedManager* manager, int32_t slot, int32_t num_tokens,
                   int32_t max_num_tokens, AdmittedSlot* admitted = nullptr) {
  AdmittedSlot unheard;
  StepPlan plan;
  const std::vector<TokenId> tokens(num_tokens);
  KvAdmission admission;
  admission.tokens = tokens;
  admission.num_new_tokens =
      manager->AdmissionTokens(num_tokens, max_num_tokens);
  admission.max_num_tokens = max_num_tokens;
  return manager->Admit(SlotId(slot), admission,
                        admitted == nullptr ? &unheard : admitted, &plan);
}

TEST(ReservedManagerTest, EachRuleReservesItsLength) {
  const KvOptions options = Options(/*num_blocks=*/64);
  // 5 known tokens, 9 to come; blocks of 4, ranges of powers of two.
  const ReservedManager max(options, LengthRule::kMax);
  const ReservedManager pow2(options, LengthRule::kPow2);
  const ReservedManager oracle(options, LengthRule::kOracle);
  EXPECT_EQ(max.AdmissionTokens(5, 14), 64);
  EXPECT_EQ(pow2.AdmissionTokens(5, 14), 32);    // 5 + 16 tokens, 6 blocks
  EXPECT_EQ(oracle.AdmissionTokens(5, 14), 16);  // 14 tokens, 4 blocks
  EXPECT_EQ(pow2.AdmissionTokens(50, 60), 64);   // not 66: the window ends
  EXPECT_EQ(pow2.AdmissionTokens(3, 4), 4);
}

TEST(ReservedManagerTest, AnAdmissionTakesBlocksInARow) {
  ReservedManager manager(Options(32), LengthRule::kOracle);
  ASSERT_TRUE(Admit(&manager, 0, 3, 12).ok());
  AdmittedSlot admitted;
  ASSERT_TRUE(Admit(&manager, 1, 3, 10, &admitted).ok());
  EXPECT_EQ(std::get<std::vector<BlockId>>(admitted.cache),
            (std::vector<BlockId>{BlockId(4), BlockId(5), BlockId(6)}));
  EXPECT_EQ(admitted.num_computed_tokens, 0);
  EXPECT_EQ(manager.NumBlocks(SlotId(1)), 3);
  // The fourth block of the range is held too, and comes back with it.
  EXPECT_EQ(manager.NumPrivateBlocks({SlotId(1)}), 4);
  EXPECT_EQ(manager.Usage().num_held, 8);
  EXPECT_EQ(manager.Placement(SlotId(1)), admitted.cache);
}

TEST(ReservedManagerTest, GrowthIsFree) {
  ReservedManager manager(Options(4), LengthRule::kOracle);
  ASSERT_TRUE(Admit(&manager, 0, 1, 16).ok());
  StepPlan plan;
  EXPECT_TRUE(manager.Grow(SlotId(0), 1, 15, &plan).ok());
  EXPECT_EQ(plan, StepPlan());
  EXPECT_FALSE(manager.MustCopy(SlotId(0), 15));
}

TEST(ReservedManagerTest, EnoughBlocksApartAreRefusedAndTakeNothing) {
  ReservedManager manager(Options(8), LengthRule::kOracle);
  for (int32_t slot = 0; slot < 4; ++slot) {
    ASSERT_TRUE(Admit(&manager, slot, 1, 8).ok());
  }
  manager.Release(SlotId(0));
  manager.Release(SlotId(2));
  const uint64_t digest = manager.table_digest();
  EXPECT_EQ(manager.Usage().num_free, 4);
  const absl::Status status = Admit(&manager, 0, 1, 16);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(manager.NumBlocks(SlotId(0)), 0);
  EXPECT_EQ(manager.table_digest(), digest);
  manager.Release(SlotId(1));
  EXPECT_TRUE(Admit(&manager, 0, 1, 16).ok());
}

TEST(ReservedManagerTest, WhoeverFitsAloneFitsAnEmptyPool) {
  for (int32_t num_blocks : {1, 7, 13, 16, 20}) {
    const KvOptions options = Options(num_blocks);
    for (LengthRule rule :
         {LengthRule::kMax, LengthRule::kPow2, LengthRule::kOracle}) {
      for (int32_t num_tokens = 1; num_tokens < 64; ++num_tokens) {
        for (int32_t longest = num_tokens + 1; longest <= 64; ++longest) {
          ReservedManager manager(options, rule);
          EXPECT_EQ(Admit(&manager, 0, num_tokens, longest).ok(),
                    ReservedManager::NumRangeBlocks(options, rule, num_tokens,
                                                    longest) <= num_blocks);
        }
      }
    }
  }
}

TEST(ReservedManagerTest, WhoeverFitsAloneFitsAgainWithTheTokensItHas) {
  const KvOptions options = Options(/*num_blocks=*/64);
  for (LengthRule rule :
       {LengthRule::kMax, LengthRule::kPow2, LengthRule::kOracle}) {
    for (int32_t first = 1; first < 63; ++first) {
      for (int32_t longest = first + 1; longest <= 64; ++longest) {
        int32_t most = 0;
        for (int32_t known = first; known < longest; ++known) {
          most = std::max(most, ReservedManager::NumRangeBlocks(
                                    options, rule, known, longest));
        }
        EXPECT_EQ(
            ReservedManager::MostRangeBlocks(options, rule, first, longest),
            most);
      }
    }
  }
}

TEST(ReservedManagerDeathTest, GrowthPastTheReservationIsABug) {
  ReservedManager manager(Options(4), LengthRule::kOracle);
  ASSERT_TRUE(Admit(&manager, 0, 1, 8).ok());
  StepPlan plan;
  EXPECT_DEATH((void)manager.Grow(SlotId(0), 8, 1, &plan),
               "slot 0 passes its reservation");
}

TEST(ReservedManagerTest, NoTwoSlotsMeetOverRandomOperations) {
  for (LengthRule rule :
       {LengthRule::kMax, LengthRule::kPow2, LengthRule::kOracle}) {
    std::mt19937 random(static_cast<int>(rule));
    ReservedManager manager(Options(/*num_blocks=*/45), rule);
    std::map<int32_t, std::vector<BlockId>> tables;
    for (int operation = 0; operation < 50000; ++operation) {
      const int32_t slot = random() % 8;
      if (tables.contains(slot)) {
        manager.Release(SlotId(slot));
        tables.erase(slot);
      } else {
        const int32_t num_tokens = 1 + random() % 40;
        const int32_t longest = num_tokens + 1 + random() % (64 - num_tokens);
        AdmittedSlot admitted;
        if (!Admit(&manager, slot, num_tokens, longest, &admitted).ok()) {
          continue;
        }
        tables[slot] = std::get<std::vector<BlockId>>(admitted.cache);
        ASSERT_GE(tables[slot].size() * 4, longest);
      }
      std::set<BlockId> all;
      size_t num_blocks = 0;
      TableDigest digest;
      for (const auto& [id, table] : tables) {
        num_blocks += table.size();
        all.insert(table.begin(), table.end());
        for (size_t idx = 0; idx < table.size(); ++idx) {
          digest.Toggle(SlotId(id), static_cast<int32_t>(idx),
                        table[idx].value());
        }
      }
      ASSERT_EQ(all.size(), num_blocks);
      ASSERT_EQ(manager.table_digest(), digest.value());
    }
    ASSERT_TRUE(manager.CheckInvariants().ok()) << manager.CheckInvariants();
    for (const auto& [slot, table] : tables) manager.Release(SlotId(slot));
    EXPECT_EQ(manager.Usage().num_free, 45);
    EXPECT_EQ(manager.table_digest(), 0);
  }
}

}  // namespace
}  // namespace quire
