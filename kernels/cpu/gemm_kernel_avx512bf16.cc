// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gemm_kernel_avx512bf16.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Per function and not by compiler flags, so that no inline function of a
// shared header is compiled for a processor that may not be there.
#define QUIRE_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace quire {
namespace {

template <int kRows>
QUIRE_TARGET void Tile(const GemmTile& tile) {
  __m512 sums[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      sums[r][v] = tile.resume
                       ? _mm512_load_ps(tile.sums + r * kPanelLanes + v * 16)
                       : _mm512_setzero_ps();
    }
  }
  const uint32_t* a = tile.a;
  const uint32_t* panel = tile.panel;
  const char* prefetch = tile.prefetch;
  for (int64_t step = 0; step < tile.num_steps; ++step) {
    _mm_prefetch(prefetch, _MM_HINT_T0);
    _mm_prefetch(prefetch + 64, _MM_HINT_T0);
    const __m512bh b0 = (__m512bh)_mm512_load_si512(panel);
    const __m512bh b1 = (__m512bh)_mm512_load_si512(panel + 16);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[r]));
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, b0);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, b1);
    }
    a += kRows;
    panel += kPanelLanes;
    prefetch += 128;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      _mm512_store_ps(tile.sums + r * kPanelLanes + v * 16, sums[r][v]);
    }
  }
}

// Rows of a tile: 24 of 32 registers hold sums.
constexpr int32_t kMaxRows = 12;

void RunTile(const GemmTile& tile) {
  constexpr void (*kByRows[kMaxRows])(const GemmTile&) = {
      Tile<1>, Tile<2>, Tile<3>, Tile<4>,  Tile<5>,  Tile<6>,
      Tile<7>, Tile<8>, Tile<9>, Tile<10>, Tile<11>, Tile<12>};
  kByRows[tile.rows - 1](tile);
}

}  // namespace

std::optional<GemmKernel> Avx512Bf16GemmKernel() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512bf16") ||
      !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq")) {
    return std::nullopt;
  }
  return GemmKernel{RunTile, kMaxRows, /*by_rows=*/false, "avx512_bf16"};
}

}  // namespace quire

#else

namespace quire {

std::optional<GemmKernel> Avx512Bf16GemmKernel() { return std::nullopt; }

}  // namespace quire

#endif
