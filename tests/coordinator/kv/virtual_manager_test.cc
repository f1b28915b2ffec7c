// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/virtual_manager.h"

#include <map>
#include <random>
#include <set>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kGroupTokens = 3;
constexpr int32_t kRows = 4;

KvOptions Options(int32_t num_groups) {
  return {.num_blocks = num_groups,
          .block_size = kGroupTokens,
          .max_num_seqs = kRows,
          .max_model_len = 60,
          .num_host_blocks = 0};
}

absl::StatusOr<CacheRowId> Admit(VirtualManager* manager, int32_t slot,
                                 int32_t num_tokens, StepPlan* plan) {
  const std::vector<TokenId> tokens(num_tokens);
  KvAdmission admission;
  admission.tokens = tokens;
  admission.num_new_tokens = num_tokens;
  admission.max_num_tokens = 60;
  AdmittedSlot admitted;
  const absl::Status status =
      manager->Admit(SlotId(slot), admission, &admitted, plan);
  if (!status.ok()) return status;
  EXPECT_EQ(admitted.num_computed_tokens, 0);
  return std::get<CacheRowId>(admitted.cache);
}

TEST(VirtualManagerTest, ARowHasMemoryForWhatItsSlotWrites) {
  VirtualManager manager(Options(10));
  StepPlan plan;
  const CacheRowId row = *Admit(&manager, 2, 7, &plan);
  ASSERT_EQ(plan.mappings.size(), 1);
  EXPECT_EQ(plan.mappings[0], (RowMapping{row, 3}));
  EXPECT_EQ(manager.NumBlocks(SlotId(2)), 3);
  EXPECT_EQ(manager.Usage().num_free, 7);
  EXPECT_EQ(std::get<CacheRowId>(manager.Placement(SlotId(2))), row);
  plan = {};
  ASSERT_TRUE(manager.Grow(SlotId(2), 7, 2, &plan).ok());
  EXPECT_EQ(plan, StepPlan());
  ASSERT_TRUE(manager.Grow(SlotId(2), 9, 1, &plan).ok());
  EXPECT_EQ(plan.mappings, (std::vector<RowMapping>{{row, 4}}));
}

TEST(VirtualManagerTest, AReleasedRowKeepsItsMemoryForTheNext) {
  VirtualManager manager(Options(10));
  StepPlan plan;
  const CacheRowId row = *Admit(&manager, 0, 9, &plan);
  manager.Release(SlotId(0));
  EXPECT_EQ(manager.Usage().num_cached, 3);
  EXPECT_EQ(manager.Usage().num_held, 0);
  plan = {};
  EXPECT_EQ(*Admit(&manager, 1, 6, &plan), row);
  EXPECT_TRUE(plan.mappings.empty());
  // What it does not use is anybody's.
  EXPECT_EQ(manager.Usage().num_held, 2);
  EXPECT_EQ(manager.Usage().num_cached, 1);
}

TEST(VirtualManagerTest, TheRowThatFitsBestIsGiven) {
  VirtualManager manager(Options(30));
  StepPlan plan;
  std::vector<CacheRowId> rows;
  for (int32_t num_tokens : {15, 6, 9, 3}) {
    rows.push_back(
        *Admit(&manager, static_cast<int32_t>(rows.size()), num_tokens, &plan));
  }
  for (int32_t slot = 0; slot < kRows; ++slot) manager.Release(SlotId(slot));
  plan = {};
  EXPECT_EQ(*Admit(&manager, 0, 8, &plan), rows[2]);  // 3 groups
  EXPECT_EQ(*Admit(&manager, 1, 8, &plan), rows[0]);  // 5: the next larger
  EXPECT_TRUE(plan.mappings.empty());
  EXPECT_EQ(*Admit(&manager, 2, 18, &plan), rows[1]);  // the largest there is
  EXPECT_EQ(plan.mappings, (std::vector<RowMapping>{{rows[1], 6}}));
}

TEST(VirtualManagerTest, UnderPressureTheRowReleasedLongestAgoGivesFirst) {
  VirtualManager manager(Options(6));
  StepPlan plan;
  const CacheRowId first = *Admit(&manager, 0, 6, &plan);
  const CacheRowId second = *Admit(&manager, 1, 6, &plan);
  const CacheRowId third = *Admit(&manager, 2, 6, &plan);
  manager.Release(SlotId(1));
  manager.Release(SlotId(0));
  plan = {};
  // The row is unmapped before the other is mapped: never more than there are.
  ASSERT_TRUE(manager.Grow(SlotId(2), 6, 7, &plan).ok());
  EXPECT_EQ(plan.mappings,
            (std::vector<RowMapping>{{second, 0}, {first, 1}, {third, 5}}));
  EXPECT_TRUE(manager.CheckInvariants().ok());
}

TEST(VirtualManagerTest, MappingAheadTakesNothingFromThoseThatRun) {
  VirtualManager manager(Options(4));
  StepPlan plan;
  const CacheRowId row = *Admit(&manager, 0, 6, &plan);
  plan = {};
  manager.MapAhead(SlotId(0), 7, &plan);
  EXPECT_EQ(plan.mappings, (std::vector<RowMapping>{{row, 3}}));
  EXPECT_EQ(manager.NumBlocks(SlotId(0)), 2);
  EXPECT_EQ(manager.Usage().num_held, 2);
  plan = {};
  ASSERT_TRUE(manager.Grow(SlotId(0), 6, 1, &plan).ok());
  EXPECT_EQ(plan, StepPlan());  // the memory was there
  EXPECT_EQ(manager.NumBlocks(SlotId(0)), 3);
  // One group is free, which is mapped ahead and then taken for another.
  manager.MapAhead(SlotId(0), 30, &plan);
  EXPECT_EQ(plan.mappings, (std::vector<RowMapping>{{row, 4}}));
  plan = {};
  const CacheRowId other = *Admit(&manager, 1, 3, &plan);
  EXPECT_EQ(plan.mappings, (std::vector<RowMapping>{{row, 3}, {other, 1}}));
  plan = {};
  manager.MapAhead(SlotId(1), 4, &plan);
  EXPECT_EQ(plan, StepPlan());  // all are used
}

TEST(VirtualManagerTest, ARefusalTakesAndSaysNothing) {
  VirtualManager manager(Options(3));
  StepPlan plan;
  ASSERT_TRUE(Admit(&manager, 0, 6, &plan).ok());
  const uint64_t digest = manager.table_digest();
  plan = {};
  EXPECT_EQ(manager.Grow(SlotId(0), 6, 4, &plan).message(),
            "slot 0 wants 2 more page groups, have 1 unused");
  EXPECT_EQ(Admit(&manager, 1, 4, &plan).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(plan, StepPlan());
  EXPECT_EQ(manager.NumBlocks(SlotId(1)), 0);
  EXPECT_EQ(manager.table_digest(), digest);
}

// What workers would have, and what every slot must have.
TEST(VirtualManagerTest, MappingsServeEverySlotOverRandomOperations) {
  for (int seed = 0; seed < 4; ++seed) {
    const int32_t num_groups = 8 + 4 * seed;
    std::mt19937 random(seed);
    VirtualManager manager(Options(num_groups));
    std::map<CacheRowId, int32_t> mapped;
    std::map<int32_t, std::pair<CacheRowId, int32_t>> slots;  // row, tokens
    int64_t num_mapped = 0;
    for (int operation = 0; operation < 300000; ++operation) {
      StepPlan plan;
      const int32_t slot = random() % kRows;
      const int32_t num_used = manager.Usage().num_held;
      const auto it = slots.find(slot);
      if (it == slots.end()) {
        const int32_t num_tokens = 1 + random() % 20;
        const int32_t wanted = (num_tokens + kGroupTokens - 1) / kGroupTokens;
        const auto row = Admit(&manager, slot, num_tokens, &plan);
        ASSERT_EQ(row.ok(), wanted + num_used <= num_groups);
        if (row.ok()) slots[slot] = std::pair(*row, num_tokens);
      } else if (random() % 6 == 0) {
        manager.Release(SlotId(slot));
        slots.erase(it);
      } else if (random() % 2 == 0) {
        manager.MapAhead(SlotId(slot), it->second.second + random() % 9, &plan);
        ASSERT_EQ(manager.Usage().num_held, num_used);
      } else {
        const int32_t num_new = 1 + random() % 5;
        if (it->second.second + num_new > 60) continue;
        if (manager.Grow(SlotId(slot), it->second.second, num_new, &plan)
                .ok()) {
          it->second.second += num_new;
        }
      }
      for (const RowMapping& mapping : plan.mappings) {
        num_mapped += mapping.num_page_groups - mapped[mapping.row];
        mapped[mapping.row] = mapping.num_page_groups;
        ASSERT_LE(num_mapped, num_groups);
      }
      std::set<CacheRowId> rows;
      for (const auto& [id, held] : slots) {
        ASSERT_TRUE(rows.insert(held.first).second);
        ASSERT_GE(mapped[held.first] * kGroupTokens, held.second);
      }
      ASSERT_EQ(num_mapped + manager.Usage().num_free, num_groups);
      if (operation % 100 == 0) {
        ASSERT_TRUE(manager.CheckInvariants().ok())
            << manager.CheckInvariants();
      }
    }
    for (const auto& [slot, held] : slots) manager.Release(SlotId(slot));
    EXPECT_EQ(manager.Usage().num_free + manager.Usage().num_cached,
              num_groups);
    EXPECT_EQ(manager.table_digest(), 0);
  }
}

}  // namespace
}  // namespace quire
