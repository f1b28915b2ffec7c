// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/gemm_kernel_amx.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#define QUIRE_TARGET __attribute__((target("amx-tile,amx-bf16")))

namespace quire {
namespace {

// A tile register: 16 rows of 64 bytes, that is of 16 groups or sums.
constexpr int32_t kTileRows = 16;
constexpr int64_t kTileBytes = 64;
constexpr int64_t kPanelBytes = kPanelLanes * sizeof(uint32_t);  // of a step
static_assert(kPanelBytes == 2 * kTileBytes);

// Tile registers 0 to 3 hold sums [2 halves of rows][2 halves of lanes], 4 and
// 5 rows of x, 6 and 7 lanes of the weight.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

TileConfig ConfigFor(int32_t rows) {
  const int32_t upper = std::min(rows, kTileRows);
  const int32_t lower = std::max(rows - kTileRows, 1);
  TileConfig config;
  for (int i = 0; i < 8; ++i) config.row_bytes[i] = kTileBytes;
  config.rows[0] = config.rows[1] = config.rows[4] = upper;
  config.rows[2] = config.rows[3] = config.rows[5] = lower;
  config.rows[6] = config.rows[7] = kTileRows;
  return config;
}

// REQUIRES: num_steps is a multiple of 16.
template <bool kLower>
QUIRE_TARGET void Tile(const GemmTile& tile) {
  const int64_t a_bytes = tile.a_stride * sizeof(uint32_t);
  float* const lower_sums = tile.sums + kTileRows * kPanelLanes;
  if (tile.resume) {
    _tile_loadd(0, tile.sums, kPanelBytes);
    _tile_loadd(1, tile.sums + 16, kPanelBytes);
    if constexpr (kLower) {
      _tile_loadd(2, lower_sums, kPanelBytes);
      _tile_loadd(3, lower_sums + 16, kPanelBytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kLower) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  const uint32_t* panel = tile.panel;
  const char* prefetch = tile.prefetch;
  for (int64_t step = 0; step < tile.num_steps; step += kTileRows) {
    for (int64_t line = 0; line < 2 * kTileRows; ++line) {
      _mm_prefetch(prefetch + line * 64, _MM_HINT_T0);
    }
    prefetch += kTileRows * kPanelBytes;
    _tile_loadd(4, tile.a + step, a_bytes);
    _tile_loadd(6, panel, kPanelBytes);
    _tile_loadd(7, panel + 16, kPanelBytes);
    panel += kTileRows * kPanelLanes;
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kLower) {
      _tile_loadd(5, tile.a + kTileRows * tile.a_stride + step, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, tile.sums, kPanelBytes);
  _tile_stored(1, tile.sums + 16, kPanelBytes);
  if constexpr (kLower) {
    _tile_stored(2, lower_sums, kPanelBytes);
    _tile_stored(3, lower_sums + 16, kPanelBytes);
  }
}

QUIRE_TARGET void RunTile(const GemmTile& tile) {
  const TileConfig config = ConfigFor(tile.rows);
  _tile_loadconfig(&config);
  tile.rows > kTileRows ? Tile<true>(tile) : Tile<false>(tile);
  _tile_release();
}

bool ProcessorHasAmx() {
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  return (d & kAmxBf16) != 0 && (d & kAmxTile) != 0;
}

// Linux saves tile state only for processes that asked for it.
bool RequestTileState() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

std::optional<GemmKernel> AmxGemmKernel() {
  if (!ProcessorHasAmx() || !RequestTileState()) return std::nullopt;
  return GemmKernel{RunTile, 2 * kTileRows, /*by_rows=*/true, "amx_bf16"};
}

}  // namespace quire

#else

namespace quire {

std::optional<GemmKernel> AmxGemmKernel() { return std::nullopt; }

}  // namespace quire

#endif
