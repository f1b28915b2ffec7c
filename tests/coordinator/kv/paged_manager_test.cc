// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/paged_manager.h"

#include <algorithm>
#include <map>
#include <random>
#include <variant>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

KvOptions Options(int32_t num_blocks, int32_t block_size) {
  return {.num_blocks = num_blocks,
          .block_size = block_size,
          .max_num_seqs = 8,
          .max_model_len = 1024,
          .num_host_blocks = 0};
}

absl::Status Admit(PagedManager* manager, SlotId slot, int32_t num_tokens) {
  AdmittedSlot admitted;
  StepPlan plan;
  return manager->Admit(
      slot,
      {.tokens = {}, .num_new_tokens = num_tokens, .max_num_tokens = 1024},
      &admitted, &plan);
}

TEST(PagedManagerTest, AdmissionTakesWhatTheTokensFill) {
  PagedManager manager(Options(/*num_blocks=*/10, /*block_size=*/4));
  AdmittedSlot admitted;
  StepPlan plan;
  ASSERT_TRUE(
      manager
          .Admit(SlotId(3),
                 {.tokens = {}, .num_new_tokens = 9, .max_num_tokens = 99},
                 &admitted, &plan)
          .ok());
  EXPECT_EQ(std::get<std::vector<BlockId>>(admitted.cache).size(), 3);
  EXPECT_EQ(admitted.num_computed_tokens, 0);
  EXPECT_EQ(manager.NumBlocks(SlotId(3)), 3);
  EXPECT_EQ(manager.Usage().num_free, 7);
  EXPECT_EQ(manager.Placement(SlotId(3)), admitted.cache);
}

TEST(PagedManagerTest, GrowthSaysWhichBlocksJoin) {
  PagedManager manager(Options(10, 4));
  ASSERT_TRUE(Admit(&manager, SlotId(0), 3).ok());
  StepPlan plan;
  ASSERT_TRUE(manager.Grow(SlotId(0), 3, 1, &plan).ok());
  EXPECT_TRUE(plan.appended.empty());  // the block had room
  ASSERT_TRUE(manager.Grow(SlotId(0), 4, 6, &plan).ok());
  EXPECT_EQ(plan.appended.size(), 2);
  EXPECT_EQ(plan.appended[0].slot, SlotId(0));
  EXPECT_EQ(manager.NumBlocks(SlotId(0)), 3);
}

TEST(PagedManagerTest, ARefusedGrowthTakesAndSaysNothing) {
  PagedManager manager(Options(3, 4));
  ASSERT_TRUE(Admit(&manager, SlotId(0), 8).ok());
  const uint64_t digest = manager.table_digest();
  StepPlan plan;
  const absl::Status status = manager.Grow(SlotId(0), 8, 8, &plan);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "slot 0 wants 2 more KV blocks, have 1 free");
  EXPECT_EQ(plan, StepPlan());
  EXPECT_EQ(manager.Usage().num_free, 1);
  EXPECT_EQ(manager.table_digest(), digest);
  EXPECT_EQ(Admit(&manager, SlotId(1), 8).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(manager.NumBlocks(SlotId(1)), 0);
}

TEST(PagedManagerTest, AForkTakesNoBlockUntilOneOfThemWrites) {
  PagedManager manager(Options(10, 4));
  ASSERT_TRUE(Admit(&manager, SlotId(0), 6).ok());
  manager.Fork(SlotId(0), SlotId(1), /*num_computed=*/6);
  EXPECT_EQ(manager.Usage().num_free, 8);
  EXPECT_TRUE(manager.MustCopy(SlotId(0), 6));
  EXPECT_EQ(manager.NumPrivateBlocks({SlotId(0)}), 0);
  EXPECT_EQ(manager.NumPrivateBlocks({SlotId(0), SlotId(1)}), 2);
  EXPECT_EQ(manager.HoldersOf(SlotId(0), 6).num_slots, 2);
  EXPECT_EQ(manager.HoldersOf(SlotId(0), 6).block,
            manager.HoldersOf(SlotId(1), 6).block);
  EXPECT_EQ(manager.HoldersOf(SlotId(0), 8).num_slots, 0);  // has none yet

  StepPlan plan;
  ASSERT_TRUE(manager.Grow(SlotId(0), 6, 1, &plan).ok());
  EXPECT_EQ(manager.HoldersOf(SlotId(1), 6).num_slots, 1);
  ASSERT_EQ(plan.copies.size(), 1);
  ASSERT_EQ(plan.replaced.size(), 1);
  EXPECT_TRUE(plan.appended.empty());
  EXPECT_EQ(plan.replaced[0].logical_idx, 1);
  EXPECT_EQ(plan.replaced[0].block, plan.copies[0].dst);
  EXPECT_EQ(manager.Usage().num_free, 7);
  // The other now has the old block alone and writes in place.
  EXPECT_FALSE(manager.MustCopy(SlotId(1), 6));
  EXPECT_TRUE(manager.CheckInvariants().ok());
}

TEST(PagedManagerTest, AForkAtABlocksEndCopiesNothing) {
  PagedManager manager(Options(10, 4));
  ASSERT_TRUE(Admit(&manager, SlotId(0), 8).ok());
  manager.Fork(SlotId(0), SlotId(1), /*num_computed=*/8);
  StepPlan plan;
  ASSERT_TRUE(manager.Grow(SlotId(1), 8, 1, &plan).ok());
  EXPECT_TRUE(plan.copies.empty());
  EXPECT_EQ(plan.appended.size(), 1);
}

TEST(PagedManagerTest, ACopyThatDoesNotFitIsRefusedWhole) {
  PagedManager manager(Options(2, 4));
  ASSERT_TRUE(Admit(&manager, SlotId(0), 6).ok());
  manager.Fork(SlotId(0), SlotId(1), /*num_computed=*/6);
  StepPlan plan;
  EXPECT_EQ(manager.Grow(SlotId(1), 6, 1, &plan).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(plan, StepPlan());
  EXPECT_TRUE(manager.CheckInvariants().ok());
}

// What workers would have: tables by applying the deltas, as a plain map.
class Mirror {
 public:
  void Admitted(SlotId slot, const CachePlacement& cache) {
    tables_[slot] = std::get<std::vector<BlockId>>(cache);
  }
  void Forked(SlotId parent, SlotId child, int32_t num_blocks) {
    tables_[child] = tables_[parent];
    tables_[child].resize(num_blocks);
  }
  void Released(SlotId slot) { tables_.erase(slot); }
  void Apply(const StepPlan& plan) {
    for (const ReplacedBlock& replaced : plan.replaced) {
      tables_[replaced.slot][replaced.logical_idx] = replaced.block;
    }
    for (const AppendedBlock& appended : plan.appended) {
      tables_[appended.slot].push_back(appended.block);
    }
  }
  uint64_t Digest() const {
    TableDigest digest;
    for (const auto& [slot, table] : tables_) {
      for (size_t idx = 0; idx < table.size(); ++idx) {
        digest.Toggle(slot, static_cast<int32_t>(idx), table[idx].value());
      }
    }
    return digest.value();
  }
  int32_t NumDistinct() const {
    std::vector<BlockId> all;
    for (const auto& [slot, table] : tables_) {
      all.insert(all.end(), table.begin(), table.end());
    }
    std::sort(all.begin(), all.end());
    return std::unique(all.begin(), all.end()) - all.begin();
  }
  int32_t NumHolders(BlockId block) const {
    int32_t num = 0;
    for (const auto& [slot, table] : tables_) {
      num += std::count(table.begin(), table.end(), block);
    }
    return num;
  }
  BlockId Block(SlotId slot, int32_t idx) { return tables_[slot][idx]; }

 private:
  std::map<SlotId, std::vector<BlockId>> tables_;
};

TEST(PagedManagerTest, DeltasRebuildTheTablesOverRandomOperations) {
  for (int32_t block_size : {1, 4, 16}) {
    std::mt19937 random(block_size);
    PagedManager manager(Options(/*num_blocks=*/40, block_size));
    Mirror mirror;
    std::map<int32_t, int32_t> lengths;  // computed tokens of live slots
    for (int operation = 0; operation < 30000; ++operation) {
      const int32_t slot = random() % 8;
      const SlotId id(slot);
      const auto it = lengths.find(slot);
      if (it == lengths.end()) {
        const int32_t parent = random() % 8;
        if (random() % 2 == 0 && lengths.contains(parent)) {
          const int32_t length = 1 + random() % lengths[parent];
          manager.Fork(SlotId(parent), id, length);
          mirror.Forked(SlotId(parent), id,
                        (length + block_size - 1) / block_size);
          lengths[slot] = length;
        } else {
          const int32_t length = 1 + random() % (4 * block_size);
          AdmittedSlot admitted;
          StepPlan admission_plan;
          const auto status = manager.Admit(
              id,
              {.tokens = {}, .num_new_tokens = length, .max_num_tokens = 1024},
              &admitted, &admission_plan);
          if (!status.ok()) continue;
          mirror.Admitted(id, admitted.cache);
          lengths[slot] = length;
        }
      } else if (random() % 8 == 0) {
        manager.Release(id);
        mirror.Released(id);
        lengths.erase(it);
      } else {
        const int32_t num_new = 1 + random() % (2 * block_size);
        StepPlan plan;
        if (!manager.Grow(id, it->second, num_new, &plan).ok()) continue;
        mirror.Apply(plan);
        // Every block about to be written is the writer's alone.
        for (int32_t position = it->second; position < it->second + num_new;
             ++position) {
          ASSERT_EQ(mirror.NumHolders(mirror.Block(id, position / block_size)),
                    1);
        }
        it->second += num_new;
      }
      ASSERT_EQ(manager.table_digest(), mirror.Digest());
      ASSERT_EQ(manager.Usage().num_held, mirror.NumDistinct());
    }
    ASSERT_TRUE(manager.CheckInvariants().ok());
    for (const auto& [slot, length] : lengths) manager.Release(SlotId(slot));
    EXPECT_EQ(manager.Usage().num_free, 40);
    EXPECT_EQ(manager.table_digest(), 0);
    EXPECT_TRUE(manager.CheckInvariants().ok());
  }
}

}  // namespace
}  // namespace quire
