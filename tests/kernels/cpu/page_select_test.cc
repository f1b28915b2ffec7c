// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cpu/sparse_world.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

using PageSelectTest = PerDtypeTest;

// See ExpectNear of attention_test.cc for the tolerance of outputs. A bound
// sums head_dim <= 128 products of normals, each at most 5 * 5: its error is
// below 128 * 2^-24 * 128 * 25 = 0.03 at worst and some 1e-5 typically; the
// seeds give no choice that is narrower than 1e-4.
TEST_P(PageSelectTest, AgreesWithTheReferenceOverThePagesItChooses) {
  for (const SparseShape& shape : {SparseShape{8, 2, 64, 16},
                                   {4, 4, 32, 8},
                                   {7, 1, 80, 16},
                                   {6, 2, 128, 4},
                                   {5, 1, 20, 1}}) {
    SCOPED_TRACE(testing::Message() << "head_dim " << shape.head_dim);
    const int32_t context = 37 * shape.block_size + 5;
    SparseWorld world(GetParam(), shape, {context});
    world.WriteAll(backend_.get());
    for (int32_t num_pages : {4, 5, 9, 36}) {
      const int32_t first = num_pages * shape.block_size;
      for (int32_t position : {first, first + shape.block_size + 1,
                               context - shape.block_size, context - 1}) {
        const Tensor got = world.Attend(backend_.get(), {{0, position, 1}},
                                        {first}, num_pages);
        double margin = INFINITY;
        const std::vector<double> want =
            world.Reference(0, position, num_pages, &margin);
        ASSERT_GT(margin, 1e-4);
        for (int64_t i = 0; i < got.size(); ++i) {
          ASSERT_NEAR(got[i], want[i],
                      1e-5 + UnitRoundoff(GetParam()) * std::abs(want[i]))
              << "element " << i << " of position " << position << ", "
              << num_pages << " pages";
        }
      }
    }
  }
}

TEST_P(PageSelectTest, RowsBeforeTheFirstSparseOneAreBitwiseDense) {
  SparseWorld world(GetParam(), {4, 2, 64, 16}, {300});
  world.WriteAll(backend_.get());
  const Tensor dense = world.Attend(backend_.get(), {{0, 0, 300}});
  const int64_t row = world.q_size();
  for (int32_t first : {5 * 16, 100, 200, 299, 300, 1000}) {
    const Tensor mixed =
        world.Attend(backend_.get(), {{0, 0, 300}}, {first}, 5);
    const int32_t num_dense = std::min(first, 300);
    EXPECT_TRUE(mixed.SameBits(0, dense, 0, num_dense * row));
    if (num_dense < 300) {
      EXPECT_FALSE(mixed.SameBits(num_dense * row, dense, num_dense * row,
                                  (300 - num_dense) * row));
    }
  }
}

TEST_P(PageSelectTest, BatchChunksAndThreadsDoNotShow) {
  constexpr int32_t kPages = 6;
  for (const SparseShape& shape :
       {SparseShape{8, 2, 64, 16}, {6, 2, 40, 8}, {1, 1, 64, 32}}) {
    SCOPED_TRACE(testing::Message() << "block size " << shape.block_size);
    const int32_t first = kPages * shape.block_size;
    SparseWorld world(GetParam(), shape, {700, 690, 90});
    world.WriteAll(backend_.get());
    const Tensor whole =
        world.Attend(backend_.get(), {{0, 0, 700}}, {first}, kPages);
    const auto one_thread = MakeTestBackend(GetParam(), /*num_threads=*/1);
    const int64_t row = world.q_size();
    for (Backend* backend : {backend_.get(), one_thread.get()}) {
      for (const auto& [at, num] : {std::pair<int32_t, int32_t>{699, 1},
                                    {first, 1},
                                    {first - 3, 40},
                                    {500, 200}}) {
        // Alone, then among others of which some are dense.
        EXPECT_TRUE(world.Attend(backend, {{0, at, num}}, {first}, kPages)
                        .SameBits(0, whole, at * row, num * row));
        EXPECT_TRUE(world
                        .Attend(backend,
                                {{2, 60, 30}, {0, at, num}, {1, 600, 33}},
                                {1000, first, 610}, kPages)
                        .SameBits(30 * row, whole, at * row, num * row));
      }
    }
  }
}

TEST_P(PageSelectTest, OfEqualPagesTheEarliestAreRead) {
  // Equal keys weigh all positions alike, so that the output is the mean of the
  // pages that were read, whose values are powers of two.
  const SparseShape shape = {2, 1, 16, 4};
  SparseWorld world(GetParam(), shape, {10 * 4});
  for (int64_t i = 0; i < world.keys(0).size(); ++i) world.keys(0).Set(i, 1.0f);
  for (int64_t i = 0; i < world.values(0).size(); ++i) {
    world.values(0).Set(i, std::ldexp(1.0f, i / (4 * 16)));
  }
  world.WriteAll(backend_.get());
  const Tensor out = world.Attend(backend_.get(), {{0, 39, 1}}, {24}, 6);
  // Pages 0, 8 and 9, and then 1, 2 and 3.
  const double want = (1 + 256 + 512 + 2 + 4 + 8) / 6.0;
  for (int64_t i = 0; i < out.size(); ++i) {
    EXPECT_NEAR(out[i], want, 2 * UnitRoundoff(GetParam()) * want);
  }
}

TEST_P(PageSelectTest, APageThatCannotBeBoundedIsRead) {
  SparseWorld world(GetParam(), {4, 2, 64, 16}, {20 * 16});
  // A key of the first KV head, in a page whose values cannot be missed.
  for (int32_t c = 0; c < 64; ++c) {
    world.keys(0).Set((5 * 16 + 3) * world.kv_size() + c, NAN);
  }
  for (int64_t i = 5 * 16 * world.kv_size(); i < 6 * 16 * world.kv_size();
       ++i) {
    world.values(0).Set(i, 1e6f);
  }
  world.WriteAll(backend_.get());
  const Tensor out = world.Attend(backend_.get(), {{0, 319, 1}}, {64}, 4);
  EXPECT_GT(out[0], 1e3);
  EXPECT_LT(out[2 * 64], 1e3);  // of the second, which chose another
}

INSTANTIATE_TEST_SUITE_P(Dtypes, PageSelectTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
