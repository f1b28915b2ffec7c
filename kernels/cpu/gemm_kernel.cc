// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gemm_kernel.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/gemm_kernel_amx.h"
#include "kernels/cpu/gemm_kernel_avx512bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/gemm_kernel.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// Vectors of lanes, and rows, whose accumulators fit the registers: 24 of 32
// with AVX-512, 12 of 16 elsewhere.
constexpr int kVectors = 2;
constexpr int kKernelRows = HWY_MAX_BYTES >= 64 ? 12 : 6;

struct Float {
  // sum += x * w, for one group of k.
  static HWY_INLINE void MulAdd(FloatTag d, uint32_t x, const uint32_t* const w,
                                FloatVec* sum) {
    float value;
    std::memcpy(&value, &x, sizeof(value));
    *sum = hn::MulAdd(hn::Set(d, value),
                      hn::Load(d, reinterpret_cast<const float*>(w)), *sum);
  }
};

struct Bf16Pair {
  static HWY_INLINE void MulAdd(FloatTag d, uint32_t x, const uint32_t* const w,
                                FloatVec* sum) {
    const hn::RebindToUnsigned<FloatTag> du;
    const auto upper = hn::Set(du, 0xffff0000u);
    const auto pair = hn::Load(du, w);
    const auto value = hn::Set(du, x);
    *sum = hn::MulAdd(hn::BitCast(d, hn::ShiftLeft<16>(value)),
                      hn::BitCast(d, hn::ShiftLeft<16>(pair)), *sum);
    *sum = hn::MulAdd(hn::BitCast(d, hn::And(value, upper)),
                      hn::BitCast(d, hn::And(pair, upper)), *sum);
  }
};

// kRows rows from `row` on, kVectors vectors of lanes from `lane` on.
template <typename Group, int kRows>
HWY_INLINE void SubTile(const GemmTile& tile, int32_t row, int64_t lane) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  float* to = tile.sums + row * kPanelLanes + lane;
  FloatVec sums[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = tile.resume ? hn::Load(d, to + r * kPanelLanes + v * lanes)
                               : hn::Zero(d);
    }
  }
  const uint32_t* a = tile.a + row;
  const uint32_t* panel = tile.panel + lane;
  const char* prefetch = tile.prefetch;
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    __builtin_prefetch(prefetch);
    __builtin_prefetch(prefetch + 64);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        Group::MulAdd(d, a[r], panel + v * lanes, &sums[r][v]);
      }
    }
    a += tile.rows;
    panel += kPanelLanes;
    prefetch += 128;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(sums[r][v], d, to + r * kPanelLanes + v * lanes);
    }
  }
}

template <typename Group, int kRows = kKernelRows>
void SubTileOf(const GemmTile& tile, int32_t row, int32_t rows, int64_t lane) {
  if (rows == kRows) {
    SubTile<Group, kRows>(tile, row, lane);
  } else if constexpr (kRows > 1) {
    SubTileOf<Group, kRows - 1>(tile, row, rows, lane);
  }
}

template <typename Group>
void Tile(const GemmTile& tile) {
  const int64_t width = kVectors * hn::Lanes(FloatTag());
  for (int64_t lane = 0; lane < kPanelLanes; lane += width) {
    for (int32_t row = 0; row < tile.rows; row += kKernelRows) {
      SubTileOf<Group>(tile, row, std::min(kKernelRows, tile.rows - row), lane);
    }
  }
}

void TileF32(const GemmTile& tile) { Tile<Float>(tile); }
void TileBf16(const GemmTile& tile) { Tile<Bf16Pair>(tile); }

template <typename B, typename Y>
void StoreRow(const GemmStore& store) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const B* bias = static_cast<const B*>(store.bias);
  Y* y = static_cast<Y*>(store.y);
  for (int64_t i = 0; i < store.count; i += lanes) {
    const int64_t n = store.count - i;
    FloatVec v = LoadUpTo(d, store.sums + i, n);
    if (bias != nullptr) v = hn::Add(v, LoadUpTo(d, bias + i, n));
    StoreUpTo(v, d, y + i, n);
  }
}

void StoreAny(const GemmStore& store) {
  if (store.bias_dtype == DType::kF32) {
    store.y_dtype == DType::kF32 ? StoreRow<float, float>(store)
                                 : StoreRow<float, Bf16>(store);
  } else {
    store.y_dtype == DType::kF32 ? StoreRow<Bf16, float>(store)
                                 : StoreRow<Bf16, Bf16>(store);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

// Rows that all instruction sets take, by passes where registers are few.
constexpr int32_t kHighwayRows = 12;

HWY_EXPORT(TileF32);
HWY_EXPORT(TileBf16);
HWY_EXPORT(StoreAny);

}  // namespace

GemmKernel ChooseGemmKernel(DType dtype) {
  // Before the first dispatch, tables give a stub that chooses at each call.
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  if (dtype == DType::kF32) {
    return {HWY_DYNAMIC_DISPATCH(TileF32), kHighwayRows, /*by_rows=*/false,
            "float"};
  }
  if (hwy::SupportedTargets() & HWY_AVX3) {
    if (const auto amx = AmxGemmKernel()) return *amx;
    if (const auto avx512 = Avx512Bf16GemmKernel()) return *avx512;
  }
  return {HWY_DYNAMIC_DISPATCH(TileBf16), kHighwayRows, /*by_rows=*/false,
          "bfloat16 by float"};
}

void StoreGemmRow(const GemmStore& store) {
  HWY_DYNAMIC_DISPATCH(StoreAny)(store);
}

}  // namespace quire
#endif  // HWY_ONCE
