// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

std::vector<uint8_t> Numbered(int64_t blocks, int64_t block_bytes, int first) {
  std::vector<uint8_t> bytes(blocks * block_bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = first + i / block_bytes * 7 + i % 5;
  }
  return bytes;
}

TEST(CopyBlocksTest, CopiesThePairsAndNothingElse) {
  const auto backend = MakeTestBackend(DType::kF32);
  // The last is cut into several pieces of work.
  for (int64_t block_bytes : {1, 48, 4096, 600001}) {
    const std::vector<uint8_t> before = Numbered(6, block_bytes, 1);
    std::vector<uint8_t> cache = before;
    const BlockPair pairs[] = {{0, 4}, {3, 1}};
    BlockCopyParams params = {cache.data(), cache.data(), pairs, block_bytes,
                              2};
    ASSERT_TRUE(backend->CopyBlocks(params).ok());
    for (int64_t block = 0; block < 6; ++block) {
      const int64_t from = block == 4 ? 0 : block == 1 ? 3 : block;
      for (int64_t i = 0; i < block_bytes; ++i) {
        ASSERT_EQ(cache[block * block_bytes + i],
                  before[from * block_bytes + i]);
      }
    }
  }
}

TEST(CopyBlocksTest, SwapsOutAndInAgain) {
  const auto backend = MakeTestBackend(DType::kF32);
  // A few, odd ones, and those of several pieces, the last one not whole.
  for (int64_t block_bytes : {16, 1000, 40016, 600000}) {
    const std::vector<uint8_t> before = Numbered(4, block_bytes, 3);
    std::vector<uint8_t> cache = before;
    std::vector<uint8_t> pool(3 * block_bytes);
    const BlockPair out[] = {{2, 0}, {1, 2}};
    ASSERT_TRUE(
        backend->SwapOutBlocks({cache.data(), pool.data(), out, block_bytes, 2})
            .ok());
    ASSERT_TRUE(backend->Synchronize().ok());
    cache.assign(cache.size(), 0);
    const BlockPair in[] = {{0, 2}, {2, 1}};
    ASSERT_TRUE(
        backend->SwapInBlocks({pool.data(), cache.data(), in, block_bytes, 2})
            .ok());
    ASSERT_TRUE(backend->Synchronize().ok());
    for (int64_t i = 0; i < 4 * block_bytes; ++i) {
      const int64_t block = i / block_bytes;
      ASSERT_EQ(cache[i], block == 1 || block == 2 ? before[i] : 0)
          << i << " of blocks of " << block_bytes;
    }
  }
}

TEST(CopyBlocksTest, NoPairsAreNoWork) {
  const auto backend = MakeTestBackend(DType::kF32);
  EXPECT_TRUE(backend->CopyBlocks({nullptr, nullptr, nullptr, 64, 0}).ok());
}

}  // namespace
}  // namespace quire
