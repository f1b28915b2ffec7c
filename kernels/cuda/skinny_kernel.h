// SPDX-License-Identifier: Apache-2.0
//
// The kernel of kernels/cuda/skinny_gemm.h.
#ifndef KERNELS_CUDA_SKINNY_KERNEL_H_
#define KERNELS_CUDA_SKINNY_KERNEL_H_

#include <cstdint>

#include "cuda.h"
#include "cuda_runtime.h"

namespace quire {

// A block's piece of work: rows of the weight by columns of it.
inline constexpr int32_t kSkinnyTileRows = 128;
inline constexpr int32_t kSkinnyTileCols = 64;

struct SkinnyGemmArgs {
  void* y;           // [m, n], bfloat16 or float
  const void* bias;  // [n] bfloat16, or null
  float* partials;   // [blocks, kSkinnyTileRows, tokens] sums of begun tiles
  int32_t* flags;    // [blocks] 1: the block's partial is there
  int64_t y_stride;  // elements
  int32_t m;
  int32_t n;
  int32_t units_per_tile;  // pieces along k
  int32_t num_units;       // of all tiles
  bool y_is_float;
};

// Tokens that m rows are padded to: 8, 16, 32 or 64.
int32_t SkinnyTokens(int64_t m);

// `w` maps [n, k] in boxes of kSkinnyTileRows, `x` [m, k] in boxes of
// SkinnyTokens(m), both by kSkinnyTileCols with a swizzle of 128 bytes.
cudaError_t LaunchSkinnyGemm(const CUtensorMap& w, const CUtensorMap& x,
                             const SkinnyGemmArgs& args, int32_t num_sms,
                             cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_SKINNY_KERNEL_H_
