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
