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
