// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"
#include "tests/reference/rope.h"

namespace quire {
namespace {

using RopeKvTest = PerDtypeTest;

constexpr int32_t kLayer = 1;

// Tokens at these positions, in these slots of a cache of 6 blocks of 4; the
// third is padding.
const std::vector<int32_t> kPositions = {0, 9, 3, 17, 5};
const std::vector<int32_t> kSlots = {23, 0, -1, 6, 11};

struct Case {
  int32_t num_q_heads, num_kv_heads, head_dim, rotary_dim;
  KvOrder order = KvOrder::kHeads;
};

struct Output {
  Tensor qkv;
  Tensor cache;
};

std::vector<float> CosSin(int32_t rotary_dim) {
  std::vector<float> table;
  const int32_t half = rotary_dim / 2;
  for (int32_t position = 0; position < 20; ++position) {
    for (int32_t i = 0; i < half; ++i) {
      table.push_back(std::cos(position * std::pow(100.0, -double(i) / half)));
    }
    for (int32_t i = 0; i < half; ++i) {
      table.push_back(std::sin(position * std::pow(100.0, -double(i) / half)));
    }
  }
  return table;
}

KvLayout LayoutOf(const Case& c, DType dtype) {
  return {2, c.num_kv_heads, c.head_dim, 4, dtype, c.order};
}

// Tokens [begin, end) of the above.
Output RunTokens(Backend* backend, const Case& c, const Tensor& qkv,
                 int32_t begin, int32_t end) {
  const std::vector<float> cos_sin = CosSin(c.rotary_dim);
  const KvLayout layout = LayoutOf(c, qkv.dtype());
  Output run = {qkv, Tensor(qkv.dtype(), 6 * layout.BlockStride())};
  const int64_t stride = qkv.size() / kPositions.size();
  RopeWriteKvParams params = {};
  params.qkv = run.qkv.At(begin * stride);
  params.qkv_stride = stride;
  params.cos_sin = c.rotary_dim > 0 ? cos_sin.data() : nullptr;
  params.positions = kPositions.data() + begin;
  params.slot_mapping = kSlots.data() + begin;
  params.cache = {run.cache.data(), layout, kLayer, 6};
  params.rotary_dim = c.rotary_dim;
  params.num_q_heads = c.num_q_heads;
  params.num_tokens = end - begin;
  const absl::Status status = backend->RopeWriteKv(params);
  EXPECT_TRUE(status.ok()) << status;
  return run;
}

TEST_P(RopeKvTest, RotatesAndWritesWhereTheSlotsSay) {
  const DType dtype = GetParam();
  for (const Case& c : {Case{4, 2, 32, 32},
                        {3, 1, 20, 20},
                        {2, 2, 80, 32},
                        {8, 4, 128, 128},
                        {8, 4, 128, 128, KvOrder::kTokens},
                        {3, 3, 20, 20, KvOrder::kTokens},
                        {2, 1, 24, 2},
                        {2, 2, 8, 0}}) {
    SCOPED_TRACE(testing::Message()
                 << "head_dim " << c.head_dim << " rotary " << c.rotary_dim);
    const int64_t d = c.head_dim;
    const int64_t stride = (c.num_q_heads + 2 * c.num_kv_heads) * d;
    const KvLayout layout = LayoutOf(c, dtype);
    const Tensor qkv = Tensor::Random(dtype, kPositions.size() * stride, 1);
    const std::vector<float> cos_sin = CosSin(c.rotary_dim);
    const Output run = RunTokens(backend_.get(), c, qkv, 0, kPositions.size());
    int64_t written = 0;
    for (size_t t = 0; t < kPositions.size(); ++t) {
      const auto first = cos_sin.begin() + kPositions[t] * c.rotary_dim;
      const std::vector<double> cos(first, first + c.rotary_dim / 2);
      const std::vector<double> sin(first + c.rotary_dim / 2,
                                    first + c.rotary_dim);
      // Two products and a sum in float, of values below 5, and T's rounding.
      const double tolerance =
          4 * 5 * UnitRoundoff(DType::kF32) + 5 * UnitRoundoff(dtype);
      for (int32_t h = 0; h < c.num_q_heads; ++h) {
        const int64_t at = t * stride + h * d;
        auto want = reference::Rope(qkv.Doubles(at, d), cos, sin);
        if (kSlots[t] < 0) want = qkv.Doubles(at, d);
        for (int64_t i = 0; i < d; ++i) {
          ASSERT_NEAR(run.qkv[at + i], want[i], tolerance);
        }
      }
      if (kSlots[t] < 0) continue;
      for (int32_t h = 0; h < c.num_kv_heads; ++h) {
        const int64_t k_at = t * stride + (c.num_q_heads + h) * d;
        const int64_t v_at = k_at + c.num_kv_heads * d;
        const int64_t to = kSlots[t] / 4 * layout.BlockStride() +
                           kLayer * layout.LayerStride() +
                           h * layout.HeadStride() +
                           kSlots[t] % 4 * layout.TokenStride();
        const auto want = reference::Rope(qkv.Doubles(k_at, d), cos, sin);
        for (int64_t i = 0; i < d; ++i) {
          ASSERT_NEAR(run.cache[to + i], want[i], tolerance);
        }
        ASSERT_TRUE(
            run.cache.SameBits(to + layout.HeadsStride(), qkv, v_at, d));
        written += 2 * d;
      }
    }
    // Nothing else of the cache was touched.
    int64_t not_nan = 0;
    for (int64_t i = 0; i < run.cache.size(); ++i) {
      not_nan += !std::isnan(run.cache[i]);
    }
    EXPECT_EQ(not_nan, written);
  }
}

TEST_P(RopeKvTest, ATokenDoesNotDependOnTheOthersNorOnThreads) {
  const Case c = {8, 2, 64, 64};
  const int64_t stride = (c.num_q_heads + 2 * c.num_kv_heads) * c.head_dim;
  const int32_t count = kPositions.size();
  const Tensor qkv = Tensor::Random(GetParam(), count * stride, 2);
  const Output all = RunTokens(backend_.get(), c, qkv, 0, count);
  const auto one_thread = MakeTestBackend(GetParam(), /*num_threads=*/1);
  const Output single = RunTokens(one_thread.get(), c, qkv, 0, count);
  EXPECT_TRUE(all.qkv.SameBits(single.qkv));
  EXPECT_TRUE(all.cache.SameBits(single.cache));
  for (int32_t t = 0; t < count; ++t) {
    const Output alone = RunTokens(backend_.get(), c, qkv, t, t + 1);
    EXPECT_TRUE(alone.qkv.SameBits(t * stride, all.qkv, t * stride, stride));
  }
}

TEST_P(RopeKvTest, NoTokensAreNoWork) {
  const Case c = {1, 1, 8, 8};
  const Tensor qkv = Tensor::Random(GetParam(), kPositions.size() * 24, 3);
  const Output run = RunTokens(backend_.get(), c, qkv, 0, 0);
  EXPECT_TRUE(run.qkv.SameBits(qkv));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, RopeKvTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
