// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/virtual_kv_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"

namespace quire {
namespace {

constexpr int32_t kRows = 4;
constexpr int32_t kGroups = 6;
constexpr int32_t kMaxModelLen = 40;
constexpr int64_t kPageBytes = 4096;

// 512 bytes a token, 8 of them to a page; 5 page groups to a row.
RowShape Shape() {
  return MakeRowShape({/*num_layers=*/2, /*num_kv_heads=*/1, /*head_dim=*/32,
                       /*block_size=*/16, DType::kF32},
                      kPageBytes, kMaxModelLen);
}

class VirtualKvCacheTest : public testing::Test {
 protected:
  VirtualKvCacheTest() {
    CpuBackendOptions options;
    options.num_threads = 1;
    backend_ = *CpuBackend::Create(options);
    auto cache = VirtualKvCache::Create(backend_.get(), Shape(), kRows, kGroups,
                                        &clock_);
    EXPECT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
    SlotLimits limits;
    limits.max_num_seqs = kRows;
    limits.max_model_len = kMaxModelLen;
    limits.block_size = Shape().layout.block_size;
    limits.num_blocks = kRows;
    limits.vocab_size = 100;
    slots_ = std::make_unique<SlotStates>(limits);
  }

  static AdmittedSlot Admitted(int32_t slot, int32_t row, int32_t num_tokens) {
    AdmittedSlot admitted;
    admitted.slot = SlotId(slot);
    admitted.tokens.assign(num_tokens, 1);
    admitted.num_prompt_tokens = num_tokens;
    admitted.cache = CacheRowId(row);
    return admitted;
  }

  absl::Status Prepare(const StepPlan& plan) {
    const absl::Status applied = slots_->Apply(plan);
    return applied.ok() ? cache_->Prepare(plan, *slots_) : applied;
  }

  // Bytes of a row that lie in memory.
  int64_t ResidentBytes(int32_t row) {
    const int64_t system_page = sysconf(_SC_PAGESIZE);
    const int64_t row_bytes = Shape().RowPages() * kPageBytes;
    std::vector<unsigned char> resident(row_bytes / system_page);
    char* data = static_cast<char*>(cache_->view().base) + row * row_bytes;
    EXPECT_EQ(mincore(data, row_bytes, resident.data()), 0);
    int64_t num = 0;
    for (unsigned char page : resident) num += page & 1;
    return num * system_page;
  }

  RealClock clock_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<VirtualKvCache> cache_;
  std::unique_ptr<SlotStates> slots_;
};

TEST_F(VirtualKvCacheTest, MemoryLiesBehindWhatIsUsedAndGoesWhenTold) {
  EXPECT_EQ(Shape().group_tokens, 8);
  StepPlan plan;
  plan.admitted = {Admitted(0, 2, 20)};
  plan.mappings = {{CacheRowId(2), 3}};
  plan.chunks = {{SlotId(0), 20, true}};
  ASSERT_TRUE(Prepare(plan).ok());
  EXPECT_EQ(ResidentBytes(2), 3 * kPageBytes);
  EXPECT_EQ(ResidentBytes(0) + ResidentBytes(1) + ResidentBytes(3), 0);
  // The slot ends; another row takes two of its pages.
  plan = {};
  plan.released = {SlotId(0)};
  plan.admitted = {Admitted(1, 0, 33)};
  plan.mappings = {{CacheRowId(2), 1}, {CacheRowId(0), 5}};
  plan.chunks = {{SlotId(1), 33, true}};
  ASSERT_TRUE(Prepare(plan).ok());
  const auto stats = cache_->SettledStats();
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(ResidentBytes(2), kPageBytes);
  EXPECT_EQ(ResidentBytes(0), 5 * kPageBytes);
  EXPECT_EQ(stats->num_mapped_pages, 8);
  EXPECT_EQ(stats->num_unmapped_pages, 2);
}

TEST_F(VirtualKvCacheTest, MemoryMayComeWhileStepsRun) {
  StepPlan plan;
  EXPECT_TRUE(cache_->MayPrepareAhead(plan));
  plan.mappings = {{CacheRowId(2), 3}, {CacheRowId(0), 1}};
  EXPECT_TRUE(cache_->MayPrepareAhead(plan));
  ASSERT_TRUE(Prepare(plan).ok());
  EXPECT_TRUE(cache_->MayPrepareAhead(plan));  // nothing changes
  plan.mappings = {{CacheRowId(kRows), 1}};
  EXPECT_FALSE(cache_->MayPrepareAhead(plan));
}

TEST_F(VirtualKvCacheTest, MemoryMayGoThatTheStepBeforeDoesNotUse) {
  StepPlan first;
  first.admitted = {Admitted(0, 2, 20), Admitted(1, 0, 5)};
  first.mappings = {{CacheRowId(2), 4}, {CacheRowId(0), 1}};
  first.chunks = {{SlotId(0), 20, true}};
  ASSERT_TRUE(Prepare(first).ok());
  StepPlan spare, used, other;
  spare.mappings = {{CacheRowId(2), 3}};
  used.mappings = {{CacheRowId(2), 2}, {CacheRowId(2), 4}};
  other.mappings = {{CacheRowId(2), 5}, {CacheRowId(0), 0}};
  EXPECT_TRUE(cache_->MayPrepareAhead(spare));
  EXPECT_FALSE(cache_->MayPrepareAhead(used));
  EXPECT_TRUE(cache_->MayPrepareAhead(other));
  // After a step of the other slot alone.
  StepPlan second;
  second.released = {SlotId(0)};
  second.chunks = {{SlotId(1), 5, true}};
  ASSERT_TRUE(Prepare(second).ok());
  EXPECT_TRUE(cache_->MayPrepareAhead(used));
  EXPECT_FALSE(cache_->MayPrepareAhead(other));
}

TEST_F(VirtualKvCacheTest, TheViewIsOneRowPerBlockInTokenOrder) {
  const KvCache view = cache_->view();
  EXPECT_EQ(view.num_blocks, kRows);
  EXPECT_EQ(view.layout.order, KvOrder::kTokens);
  EXPECT_EQ(view.layout.BlockStride() * SizeOf(DType::kF32),
            Shape().RowPages() * kPageBytes);
}

TEST_F(VirtualKvCacheTest, ContradictionsAreTold) {
  StepPlan plan;
  plan.admitted = {Admitted(0, 1, 20)};
  plan.mappings = {{CacheRowId(1), 2}};
  plan.chunks = {{SlotId(0), 20, true}};
  EXPECT_EQ(Prepare(plan).message(),
            "cache row 1 needs 3 page groups, 2 have memory");
  plan = {};
  plan.mappings = {{CacheRowId(4), 1}};
  EXPECT_EQ(Prepare(plan).message(),
            "cache row 4 gets 1 page groups; there are 4 rows of 5");
  plan.mappings = {{CacheRowId(0), 5}};
  EXPECT_EQ(Prepare(plan).message(),
            "cache row 0 gets 5 page groups, which makes 7 of 6");
  plan = {};
  plan.copies = {{BlockId(0), BlockId(1)}};
  EXPECT_EQ(Prepare(plan).message(),
            "blocks are moved, but the cache has rows");
}

TEST_F(VirtualKvCacheTest, PagesThatTheDeviceHasNotAreRefused) {
  RowShape shape = Shape();
  shape.page_bytes = 1024;
  const absl::Status status =
      VirtualKvCache::Create(backend_.get(), shape, kRows, kGroups, &clock_)
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
