// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cpu/sparse_world.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

using KeyBoundsTest = PerDtypeTest;

// The bounds that a block should have, over its own tokens.
void ExpectBounds(SparseWorld* world, int32_t idx, int32_t block_idx) {
  const KvLayout& layout = world->layout();
  const int32_t first = block_idx * layout.block_size;
  for (int32_t head = 0; head < layout.num_kv_heads; ++head) {
    const int64_t at = world->BlockOf(idx, first) * layout.BlockStride() +
                       layout.KeyBoundsOffset(kWorldLayer, head);
    for (int32_t c = 0; c < layout.head_dim; ++c) {
      double least = INFINITY, greatest = -INFINITY;
      for (int32_t p = first; p < first + layout.block_size; ++p) {
        const double key =
            world->keys(idx)[p * world->kv_size() + head * layout.head_dim + c];
        least = std::min(least, key);
        greatest = std::max(greatest, key);
      }
      ASSERT_EQ(world->cache()[at + c], least) << "channel " << c;
      ASSERT_EQ(world->cache()[at + layout.head_dim + c], greatest);
    }
  }
}

TEST_P(KeyBoundsTest, BoundsOfAFullBlockAreExactHoweverItWasFilled) {
  for (const SparseShape& shape : {SparseShape{4, 2, 64, 16},
                                   {3, 3, 20, 4},
                                   {2, 1, 72, 1},
                                   {6, 2, 128, 32}}) {
    SCOPED_TRACE(testing::Message() << "head_dim " << shape.head_dim);
    SparseWorld world(GetParam(), shape, {5 * shape.block_size, 97});
    const int32_t end = 5 * shape.block_size;
    // In chunks that end anywhere, the last of one token, as in a decode.
    for (int32_t begin = 0, i = 0; begin < end; ++i) {
      const int32_t next = std::min(end, begin + 1 + i % 7);
      world.Write(backend_.get(), 0, begin, next);
      begin = next;
    }
    world.Write(backend_.get(), 1, 0, 97);
    for (int32_t block = 0; block < 5; ++block) ExpectBounds(&world, 0, block);
    for (int32_t block = 0; block < 97 / shape.block_size; ++block) {
      ExpectBounds(&world, 1, block);
    }
  }
}

TEST_P(KeyBoundsTest, ABlockThatIsNotFullAndOtherLayersGetNoBounds) {
  const SparseShape shape = {4, 2, 64, 16};
  SparseWorld world(GetParam(), shape, {40});
  world.WriteAll(backend_.get());
  const KvLayout& layout = world.layout();
  for (int32_t layer = 0; layer < kWorldLayers; ++layer) {
    for (int32_t position : {0, 39}) {
      const int64_t at = world.BlockOf(0, position) * layout.BlockStride() +
                         layout.KeyBoundsOffset(layer, 0);
      const bool is_bounded = layer == kWorldLayer && position == 0;
      EXPECT_EQ(std::isnan(world.cache()[at]), !is_bounded);
    }
  }
}

TEST_P(KeyBoundsTest, ABlockThatIsFilledAgainStartsFresh) {
  const SparseShape shape = {4, 2, 64, 16};
  SparseWorld world(GetParam(), shape, {32});
  for (int64_t i = 0; i < world.keys(0).size(); ++i) {
    world.keys(0).Set(i, 1000.0f * world.keys(0)[i]);
  }
  world.WriteAll(backend_.get());
  ExpectBounds(&world, 0, 1);
  world.keys(0) = Tensor::Random(GetParam(), 32 * world.kv_size(), 99);
  world.WriteAll(backend_.get());
  ExpectBounds(&world, 0, 1);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, KeyBoundsTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
