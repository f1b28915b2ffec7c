// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/scratch.h"

#include <cstring>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ScratchTest, EveryByteCanBeWritten) {
  for (int64_t bytes : {0, 1, 63, 64, 4096, (4 << 20) - 1, 4 << 20, 5 << 20}) {
    ScratchPool pool;
    const std::shared_ptr<void> block = pool.Lend(bytes);
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block.get()) % 64, 0);
    std::memset(block.get(), 0xab, static_cast<size_t>(bytes));
  }
}

TEST(ScratchTest, ABlockGivenBackIsLentAgain) {
  ScratchPool pool;
  std::shared_ptr<void> block = pool.Lend(1000);
  void* const data = block.get();
  EXPECT_NE(pool.Lend(1000).get(), data);  // it is still out
  block.reset();
  block = pool.Lend(900);
  EXPECT_EQ(block.get(), data);
}

TEST(ScratchTest, ASmallBlockIsNotLentForALargeSlice) {
  ScratchPool pool;
  pool.Lend(100);
  const std::shared_ptr<void> block = pool.Lend(100000);
  std::memset(block.get(), 1, 100000);  // the sanitizers watch
}

TEST(ScratchTest, ManyBlocksMayBeGivenBack) {
  ScratchPool pool;
  std::vector<std::shared_ptr<void>> blocks;
  for (int64_t i = 1; i <= 10; ++i) blocks.push_back(pool.Lend(1000 * i));
  blocks.clear();
  EXPECT_NE(pool.Lend(10000), nullptr);
}

TEST(ScratchTest, ABlockMayOutliveItsPool) {
  std::shared_ptr<void> block;
  {
    ScratchPool pool;
    block = pool.Lend(64);
  }
  std::memset(block.get(), 1, 64);
}

}  // namespace
}  // namespace quire
