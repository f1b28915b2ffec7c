// SPDX-License-Identifier: Apache-2.0
//
// What a backend has that brings nothing of its own: recordings that are called
// again, gated products in two steps, and attention's.
#include "kernels/backend.h"

#include <cmath>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

TEST(BackendTest, ARecordingIsCalledAsOftenAsItIsReplayed) {
  const auto backend = MakeTestBackend(DType::kF32);
  int num_calls = 0;
  auto recording = backend->Record([&num_calls] {
    ++num_calls;
    return absl::OkStatus();
  });
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ(num_calls, 0);  // recorded, not run
  for (int i = 1; i <= 3; ++i) {
    EXPECT_TRUE(backend->Replay(recording->get()).ok());
    EXPECT_EQ(num_calls, i);
  }
}

TEST(BackendTest, AReplayFailsAsItsCallsDo) {
  const auto backend = MakeTestBackend(DType::kF32);
  absl::Status next = absl::InternalError("norm: misaligned");
  auto recording = backend->Record([&next] { return next; });
  ASSERT_TRUE(recording.ok());
  EXPECT_EQ(backend->Replay(recording->get()), next);
  next = absl::OkStatus();
  EXPECT_TRUE(backend->Replay(recording->get()).ok());
}

class GatedGemmTest : public PerDtypeTest {};

// Exact: both ways round the products to the model dtype and then take silu.
TEST_P(GatedGemmTest, IsTheProductAndThenItsActivation) {
  for (const auto& [m, half, k] :
       std::vector<std::tuple<int32_t, int64_t, int64_t>>{
           {1, 1, 1}, {3, 17, 33}, {33, 40, 65}}) {
    const Tensor x = Tensor::Random(GetParam(), m * k, 1);
    const Tensor gate = Tensor::Random(GetParam(), half * k, 2);
    const Tensor up = Tensor::Random(GetParam(), half * k, 3);
    const auto weight =
        backend_->PackGated({gate.data(), GetParam(), half, k, k},
                            {up.data(), GetParam(), half, k, k});
    ASSERT_TRUE(weight.ok()) << weight.status();
    Tensor products(GetParam(), m * 2 * half), y(GetParam(), m * half);
    ASSERT_TRUE(backend_
                    ->GatedGemm({.x = x.data(),
                                 .weight = weight->get(),
                                 .products = products.data(),
                                 .y = y.data(),
                                 .m = m})
                    .ok());
    Tensor expected_products(GetParam(), m * 2 * half);
    Tensor expected(GetParam(), m * half);
    ASSERT_TRUE(backend_
                    ->Gemm({.x = x.data(),
                            .x_stride = k,
                            .weight = weight->get(),
                            .bias = nullptr,
                            .y = expected_products.data(),
                            .y_stride = 2 * half,
                            .y_dtype = GetParam(),
                            .m = m})
                    .ok());
    ASSERT_TRUE(backend_
                    ->Activation({.kind = ActivationKind::kSiluMul,
                                  .x = expected_products.data(),
                                  .out = expected.data(),
                                  .width = static_cast<int32_t>(half),
                                  .num_tokens = m})
                    .ok());
    for (int64_t i = 0; i < m * half; ++i) {
      ASSERT_EQ(y[i], expected[i]) << "m " << m << " element " << i;
      ASSERT_FALSE(std::isnan(y[i]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, GatedGemmTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

class AttendNewTokensTest : public PerDtypeTest {};

// Exact: the same operations. The third token is padding.
TEST_P(AttendNewTokensTest, RotatesWritesAndAttends) {
  constexpr int32_t kTokens = 3, kHeads = 2, kDim = 8, kBlock = 4;
  constexpr int64_t kRow = (kHeads + 2) * kDim;
  const KvLayout layout = {1, 1, kDim, kBlock, GetParam()};
  const std::vector<float> angles(kBlock * kDim, 0.5f);
  const std::vector<int32_t> positions = {0, 1, 0}, slots = {0, 1, -1};
  const std::vector<int32_t> tables = {0}, starts = {0, 2}, contexts = {2};
  const auto run = [&](bool at_once, Tensor* cache, Tensor* out) {
    Tensor qkv = Tensor::Random(GetParam(), kTokens * kRow, 1);
    const KvCacheView view = {cache->data(), layout, 0, 1};
    const AttendNewTokensParams params = {
        .write = {.qkv = qkv.data(),
                  .qkv_stride = kRow,
                  .cos_sin = angles.data(),
                  .positions = positions.data(),
                  .slot_mapping = slots.data(),
                  .cache = view,
                  .rotary_dim = kDim,
                  .num_q_heads = kHeads,
                  .num_tokens = kTokens},
        .attention = {.q = qkv.data(),
                      .q_stride = kRow,
                      .out = out->data(),
                      .cache = view,
                      .block_tables = tables.data(),
                      .seq_slots = tables.data(),
                      .query_start = starts.data(),
                      .context_lens = contexts.data(),
                      .max_blocks_per_seq = 1,
                      .num_seqs = 1,
                      .num_tokens = kTokens,
                      .num_q_heads = kHeads,
                      .sliding_window = 0,
                      .scale = 0.5f}};
    if (at_once) return backend_->AttendNewTokens(params);
    const absl::Status written = backend_->RopeWriteKv(params.write);
    return written.ok() ? backend_->Attention(params.attention) : written;
  };
  Tensor caches[2] = {Tensor(GetParam(), layout.BlockStride()),
                      Tensor(GetParam(), layout.BlockStride())};
  Tensor outs[2] = {Tensor(GetParam(), kTokens * kHeads * kDim),
                    Tensor(GetParam(), kTokens * kHeads * kDim)};
  for (bool at_once : {false, true}) {
    ASSERT_TRUE(run(at_once, &caches[at_once], &outs[at_once]).ok());
  }
  EXPECT_TRUE(caches[1].SameBits(caches[0]));
  EXPECT_TRUE(outs[1].SameBits(outs[0]));
  for (int64_t i = 0; i < 2 * kHeads * kDim; ++i) {
    ASSERT_FALSE(std::isnan(outs[1][i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AttendNewTokensTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
