// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/rope_kv.h"

#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "cuda_runtime.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

constexpr int32_t kTokens = 40;
constexpr int32_t kHeads = 3;
constexpr int32_t kLayers = 2;
constexpr int32_t kBlockSize = 16;

// The cache after its tokens were written in `order`; NaN elsewhere.
Tensor WrittenCache(int32_t head_dim, int32_t rotary_dim, KvOrder order) {
  const KvLayout layout = {kLayers,    kHeads,       head_dim,
                           kBlockSize, DType::kBf16, order};
  const int64_t row = 3 * kHeads * head_dim;
  const Tensor qkv = Tensor::Random(DType::kBf16, kTokens * row, 1);
  Tensor cache(DType::kBf16, 3 * layout.BlockStride());
  std::vector<float> angles(kTokens * rotary_dim);
  for (size_t i = 0; i < angles.size(); ++i) angles[i] = std::sin(0.1f * i);
  std::vector<int32_t> positions(kTokens), slots(kTokens);
  std::iota(positions.begin(), positions.end(), 0);
  for (int32_t t = 0; t < kTokens; ++t) slots[t] = (t * 7 + 3) % 48;
  slots[5] = -1;
  const DeviceArray device_qkv(qkv), device_cache(cache), device_angles(angles),
      device_positions(positions), device_slots(slots);
  RopeWriteKvParams params = {};
  params.qkv = device_qkv.as<void>();
  params.qkv_stride = row;
  params.cos_sin = device_angles.as<float>();
  params.positions = device_positions.as<int32_t>();
  params.slot_mapping = device_slots.as<int32_t>();
  params.cache = {device_cache.as<void>(), layout, 1, 3};
  params.rotary_dim = rotary_dim;
  params.num_q_heads = kHeads;
  params.num_tokens = kTokens;
  EXPECT_EQ(LaunchRopeWriteKvCuda(params, /*is_known=*/false, nullptr),
            cudaSuccess);
  EXPECT_EQ(cudaMemcpy(cache.data(), params.cache.base, cache.size() * 2,
                       cudaMemcpyDeviceToHost),
            cudaSuccess);
  return cache;
}

TEST(RopeKvCudaTest, TilesHoldWhatHeadsHold) {
  struct Shape {
    int32_t head_dim, rotary_dim;
  };
  for (const Shape& shape :
       {Shape{64, 64}, {128, 128}, {128, 32}, {128, 20}, {256, 64}}) {
    SCOPED_TRACE(testing::Message() << "head dim " << shape.head_dim
                                    << " rotary " << shape.rotary_dim);
    const Tensor heads =
        WrittenCache(shape.head_dim, shape.rotary_dim, KvOrder::kHeads);
    const Tensor tiles =
        WrittenCache(shape.head_dim, shape.rotary_dim, KvOrder::kTiles);
    KvLayout layout = {kLayers, kHeads, shape.head_dim, kBlockSize,
                       DType::kBf16};
    const int64_t run = layout.HeadStride();
    ASSERT_EQ(heads.size(), tiles.size());
    int64_t written = 0;
    for (int64_t head = 0; head < heads.size(); head += run) {
      for (int32_t t = 0; t < kBlockSize; ++t) {
        for (int32_t e = 0; e < shape.head_dim; ++e) {
          layout.order = KvOrder::kTiles;
          const int64_t to = head + layout.ElementOffset(t, e);
          layout.order = KvOrder::kHeads;
          const int64_t from = head + layout.ElementOffset(t, e);
          ASSERT_TRUE(tiles.SameBits(to, heads, from, 1)) << t << ", " << e;
          written += !std::isnan(heads[from]);
        }
      }
    }
    EXPECT_EQ(written, (kTokens - 1) * 2 * kHeads * shape.head_dim);
  }
}

}  // namespace
}  // namespace quire
