// SPDX-License-Identifier: Apache-2.0
//
// The kernel of kernels/cuda/tile_gemm.h.
#ifndef KERNELS_CUDA_TILE_KERNEL_H_
#define KERNELS_CUDA_TILE_KERNEL_H_

#include <cstdint>

#include "cuda.h"
#include "cuda_runtime.h"
#include "kernels/cuda/tile_plan.h"

namespace quire {

// Of a launch among those of one product.
enum class TilePart {
  kWhole,   // the only one
  kFirst,   // the second may begin as soon as this one's inputs are there
  kSecond,  // its inputs are there when it begins; it ends after the first
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
  TilePart part;
  bool y_is_float;
  bool is_gated;  // y = silu(gate) * up, rows 16 i and 16 i + 8 on of w
  bool adds;      // y += the product, rounded; not with float or gates
};

// Of plan.shape. `w` maps [n, k] in boxes of kTileRows / shape.token_tiles, `x`
// [m, k] in boxes of tokens / shape.row_tiles, both by kTileCols with a swizzle
// of 128 bytes. `y` maps [m, n] in boxes of tokens / 2 by kTileRows / 2 with
// the same swizzle; if gated [m, n / 2] in boxes of `tokens` by kTileRows / 4
// with one of 64 bytes; floats need no map. REQUIRES: there is a kernel for
// `tokens`; the shape is kPairOfTiles or kEightTiles; plan.num_clusters run at
// once; a second launch is the next one on the stream after its first.
cudaError_t LaunchTileGemm(const CUtensorMap& w, const CUtensorMap& x,
                           const CUtensorMap& y, const TileGemmArgs& args,
                           int32_t tokens, cudaStream_t stream);

// How many clusters of kPairOfTiles or kEightTiles the current device runs at
// once, if it is idle.
cudaError_t NumTileClusters(const ClusterShape& shape, int32_t* num_clusters);

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_KERNEL_H_
