// SPDX-License-Identifier: Apache-2.0
//
// The kernel of kernels/cuda/tile_gemm.h.
#ifndef KERNELS_CUDA_TILE_KERNEL_H_
#define KERNELS_CUDA_TILE_KERNEL_H_

#include <cstdint>

#include "cuda.h"
#include "cuda_runtime.h"

namespace quire {

// A block's tile: so many rows of the weight, for up to kMaxTileTokens tokens,
// computed in pieces of so many columns. Two blocks, a cluster, compute tiles
// one below the other at the same pace and share what they load of x.
inline constexpr int32_t kTileRows = 128;
inline constexpr int32_t kTileCols = 64;
inline constexpr int32_t kTilesOfCluster = 2;
inline constexpr int32_t kMaxTileTokens = 256;
// There are kernels for multiples of 16 from here on.
inline constexpr int32_t kMinTileTokens = 128;
inline constexpr int32_t kTileTokensStep = 16;

// Pairs of tiles are numbered so that those that run at once share weights and
// tokens: by rows of the weight first, within kTokenTilesTogether of tokens.
inline constexpr int32_t kTokenTilesTogether = 8;

// The first `whole_pairs` are dealt whole, in turns; the pieces of the others,
// in the order of (pair, k), are cut into as many even runs as there are
// clusters.
struct TilePlan {
  int32_t num_clusters;
  int32_t pieces_per_tile;  // along k
  int32_t token_tiles;
  int32_t row_pairs;  // of the weight
  int32_t whole_pairs;
  int32_t pieces_per_cluster;  // of the run; one more in the first ones
  int32_t longer_clusters;
};

struct TileGemmArgs {
  void* y;           // [m, n], bfloat16 or float; n / 2 columns if gated
  const void* bias;  // [n] bfloat16, or null
  float* partials;   // [blocks, kTileRows, tokens] of begun tiles
  int32_t* flags;    // [blocks, 2] 1: half of the block's partial is there
  int64_t y_stride;  // elements
  int32_t m;
  int32_t n;
  TilePlan plan;
  bool y_is_float;
  bool is_gated;  // y = silu(gate) * up, rows 16 i and 16 i + 8 on of w
  bool adds;      // y += the product, rounded; not with float or gates
};

// `w` maps [n, k] in boxes of kTileRows, `x` [m, k] in boxes of tokens / 2,
// both by kTileCols with a swizzle of 128 bytes. `y` maps [m, n] in boxes of
// tokens / 2 by kTileRows / 2 with the same swizzle; if gated [m, n / 2] in
// boxes of `tokens` by kTileRows / 4 with one of 64 bytes; floats need no map.
// REQUIRES: there is a kernel for `tokens`; plan.num_clusters run at once.
cudaError_t LaunchTileGemm(const CUtensorMap& w, const CUtensorMap& x,
                           const CUtensorMap& y, const TileGemmArgs& args,
                           int32_t tokens, cudaStream_t stream);

// How many clusters the current device runs at once.
cudaError_t NumTileClusters(int32_t* num_clusters);

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_KERNEL_H_
