// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/kv_breakdown.h"

#include <vector>

#include "coordinator/kv/paged_manager.h"
#include "coordinator/kv/reserved_manager.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

KvOptions Options() {
  return {.num_blocks = 16,
          .block_size = 4,
          .max_num_seqs = 4,
          .max_model_len = 64,
          .num_host_blocks = 0};
}

void Admit(KvManager* manager, int32_t slot, int32_t num_tokens,
           int32_t max_num_tokens) {
  const std::vector<TokenId> tokens(num_tokens);
  KvAdmission admission;
  admission.sequence_id = SequenceId(slot + 1);
  admission.tokens = tokens;
  admission.num_new_tokens = num_tokens;
  admission.max_num_tokens = max_num_tokens;
  AdmittedSlot admitted;
  StepPlan plan;
  ASSERT_TRUE(manager->Admit(SlotId(slot), admission, &admitted, &plan).ok());
}

int64_t Sum(const KvBreakdown& breakdown) {
  return breakdown.num_token_states + breakdown.num_reserved +
         breakdown.num_internal + breakdown.num_cached + breakdown.num_unheld;
}

TEST(KvBreakdownTest, ReservedMemoryWaitsOrIsNeverUsed) {
  ReservedManager manager(Options(), LengthRule::kOracle);
  Admit(&manager, 0, 5, 18);  // 5 blocks, a range of 8
  const KvBreakdown breakdown = BreakDown(
      manager, {{{.slot = SlotId(0), .num_computed = 5, .num_final = 17}}});
  EXPECT_EQ(breakdown.num_token_states, 5);
  EXPECT_EQ(breakdown.num_reserved, 12);
  EXPECT_EQ(breakdown.num_internal, 32 - 17);
  EXPECT_EQ(breakdown.num_unheld, 32);
  EXPECT_EQ(breakdown.num_slots, 64);
  EXPECT_EQ(Sum(breakdown), 64);
}

TEST(KvBreakdownTest, PagedMemoryWastesPartOfTheLastBlock) {
  PagedManager manager(Options());
  Admit(&manager, 0, 5, 60);
  Admit(&manager, 1, 9, 10);
  const KvBreakdown breakdown = BreakDown(
      manager, {{{.slot = SlotId(0), .num_computed = 5, .num_final = 59},
                 {.slot = SlotId(1), .num_computed = 9, .num_final = 9}}});
  EXPECT_EQ(breakdown.num_token_states, 14);
  EXPECT_EQ(breakdown.num_reserved, 3);  // the rest of slot 0's second block
  EXPECT_EQ(breakdown.num_internal, 3);  // of slot 1's third
  EXPECT_EQ(Sum(breakdown), 64);
}

TEST(KvBreakdownTest, ASharedBlockCountsOnceAsFarAsTheFurthestFillsIt) {
  PagedManager manager(Options());
  Admit(&manager, 0, 6, 20);
  manager.Fork(SlotId(0), SlotId(1), 6);
  const KvBreakdown breakdown = BreakDown(
      manager, {{{.slot = SlotId(0), .num_computed = 6, .num_final = 7},
                 {.slot = SlotId(1), .num_computed = 5, .num_final = 6}}});
  EXPECT_EQ(breakdown.num_token_states, 6);
  EXPECT_EQ(breakdown.num_logical_states, 11);
  EXPECT_EQ(breakdown.num_reserved, 1);
  EXPECT_EQ(breakdown.num_internal, 1);
  EXPECT_EQ(Sum(breakdown), 64);
}

}  // namespace
}  // namespace quire
