// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/kv_cache.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

constexpr KvLayout kLayout = {/*num_layers=*/2, /*num_kv_heads=*/1,
                              /*head_dim=*/2, /*block_size=*/2, DType::kF32};

// The first and the last element of each block.
std::vector<std::pair<float, float>> Ends(const KvCache& cache) {
  std::vector<std::pair<float, float>> ends;
  for (int32_t block = 0; block < cache.num_blocks; ++block) {
    const float* data =
        static_cast<const float*>(cache.base) + block * kLayout.BlockStride();
    ends.push_back({data[0], data[kLayout.BlockStride() - 1]});
  }
  return ends;
}

TEST(PagedKvCacheTest, MovesSwapOutsThenSwapInsThenCopies) {
  FakeBackend backend;
  const auto cache = *PagedKvCache::Create(&backend, kLayout, 4, 2);
  float* data = static_cast<float*>(cache->view().base);
  for (int32_t block = 0; block < 4; ++block) {
    for (int64_t i = 0; i < kLayout.BlockStride(); ++i) {
      data[block * kLayout.BlockStride() + i] = block * 100 + i;
    }
  }
  const auto before = Ends(cache->view());
  StepPlan plan;
  // Block 1 rests in host block 1, comes back as block 0, which was saved to
  // host block 0, and is copied on to block 3.
  plan.swap_outs = {{BlockId(0), HostBlockId(0)}, {BlockId(1), HostBlockId(1)}};
  plan.swap_ins = {{BlockId(0), HostBlockId(1)}, {BlockId(1), HostBlockId(0)}};
  plan.copies = {{BlockId(0), BlockId(3)}};
  ASSERT_TRUE(cache->MoveBlocks(plan).ok());
  const auto after = Ends(cache->view());
  EXPECT_EQ(after[0], before[1]);
  EXPECT_EQ(after[1], before[0]);
  EXPECT_EQ(after[2], before[2]);
  EXPECT_EQ(after[3], before[1]);
}

TEST(PagedKvCacheTest, BlocksMoveWhenNoStepRuns) {
  FakeBackend backend;
  const auto cache = *PagedKvCache::Create(&backend, kLayout, 4, 2);
  StepPlan plan;
  EXPECT_TRUE(cache->MayPrepareAhead(plan));
  plan.swap_outs = {{BlockId(0), HostBlockId(0)}};
  EXPECT_FALSE(cache->MayPrepareAhead(plan));
  plan = {};
  plan.swap_ins = {{BlockId(0), HostBlockId(0)}};
  EXPECT_FALSE(cache->MayPrepareAhead(plan));
  plan = {};
  plan.copies = {{BlockId(0), BlockId(1)}};
  EXPECT_FALSE(cache->MayPrepareAhead(plan));
}

TEST(PagedKvCacheTest, ABlocksKeyBoundsAreCountedAndMoveWithIt) {
  FakeBackend backend;
  KvLayout layout = kLayout;
  layout.has_key_bounds = true;
  // For each of two layers and one head, two bounds of two elements.
  EXPECT_EQ(layout.BlockBytes(), kLayout.BlockBytes() + 2 * 2 * 2 * 4);
  const auto cache = *PagedKvCache::Create(&backend, layout, 2, 1);
  float* data = static_cast<float*>(cache->view().base);
  const int64_t last = layout.KeyBoundsOffset(/*layer_idx=*/1, /*head=*/0) + 3;
  EXPECT_EQ(last, layout.BlockStride() - 1);
  data[last] = 5;
  data[layout.BlockStride() + last] = 7;
  StepPlan plan;
  plan.swap_outs = {{BlockId(0), HostBlockId(0)}};
  plan.copies = {{BlockId(1), BlockId(0)}};
  ASSERT_TRUE(cache->MoveBlocks(plan).ok());
  EXPECT_EQ(data[last], 7);
  StepPlan back;
  back.swap_ins = {{BlockId(1), HostBlockId(0)}};
  ASSERT_TRUE(cache->MoveBlocks(back).ok());
  EXPECT_EQ(data[layout.BlockStride() + last], 5);
}

TEST(PagedKvCacheTest, WhatDoesNotFitIsResourceExhaustedWithTheSizes) {
  FakeBackend backend({/*total_bytes=*/1 << 20, /*free_bytes=*/1 << 20});
  EXPECT_EQ(
      PagedKvCache::Create(&backend, kLayout, 1 << 20, 0).status().message(),
      "1048576 device KV blocks of 64 bytes: the fake device is not that "
      "large");
  EXPECT_TRUE(absl::IsResourceExhausted(
      PagedKvCache::Create(&backend, kLayout, 1, 1 << 20).status()));
}

}  // namespace
}  // namespace quire
