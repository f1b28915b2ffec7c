// SPDX-License-Identifier: Apache-2.0
//
// The kernel of kernels/cuda/stream_gemm.h.
#ifndef KERNELS_CUDA_STREAM_KERNEL_H_
#define KERNELS_CUDA_STREAM_KERNEL_H_

#include <cstdint>

#include "cuda.h"
#include "cuda_runtime.h"
#include "kernels/cuda/all_reduce.h"

namespace quire {

// A block's piece of work: rows of the weight by columns of it, for all tokens.
inline constexpr int32_t kStreamTileRows = 128;
inline constexpr int32_t kStreamTileCols = 64;
inline constexpr int32_t kMaxStreamTokens = 64;

// The pieces of all tiles, in the order of (tile, k), are cut into as many even
// runs as there are blocks.
struct StreamPlan {
  int32_t units_per_tile;  // pieces along k
  int32_t num_blocks;
  int32_t units_per_block;  // one more in the first `longer_blocks`
  int32_t longer_blocks;
};

struct StreamGemmArgs {
  void* y;           // [m, n], bfloat16 or float; n / 2 columns if gated
  const void* bias;  // [n] bfloat16, or null
  // [blocks, kStreamTileRows, tokens] of begun tiles; all bytes 0xff before the
  // first launch, as each leaves them.
  float* partials;
  int64_t y_stride;  // elements
  int32_t m;
  int32_t n;
  StreamPlan plan;
  PeerGroup peers;  // that rows of y go to, if there are any
  bool y_is_float;
  bool is_gated;  // y = silu(gate) * up, rows 16 i and 16 i + 8 on of w
  bool adds;      // y += the product; not with float or gates
};

// Tokens that there are kernels for.
inline constexpr int32_t kStreamTokens[] = {8, 16, 32, 64};

// `w` maps [n, k] in boxes of kStreamTileRows, `x` [m, k] in boxes of `tokens`,
// both by kStreamTileCols with a swizzle of 128 bytes. REQUIRES: `tokens` is
// one of kStreamTokens, m at most that; with peers, rows of bfloat16 one behind
// the other.
cudaError_t LaunchStreamGemm(const CUtensorMap& w, const CUtensorMap& x,
                             const StreamGemmArgs& args, int32_t tokens,
                             cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_STREAM_KERNEL_H_
