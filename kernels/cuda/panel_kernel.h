// SPDX-License-Identifier: Apache-2.0
//
// The kernel of kernels/cuda/panel_gemm.h.
#ifndef KERNELS_CUDA_PANEL_KERNEL_H_
#define KERNELS_CUDA_PANEL_KERNEL_H_

#include <cstdint>

#include "cuda.h"
#include "cuda_runtime.h"
#include "kernels/cuda/all_reduce.h"
#include "kernels/gemm.h"

namespace quire {

inline constexpr int32_t kPanelTokens = 128;  // of a block, at most
inline constexpr int32_t kMaxPanelTokens = 2 * kPanelTokens;
inline constexpr int32_t kPanelCols = 64;  // of the weight at a time

// Rows of a panel that there are kernels for.
inline constexpr int32_t kPanelRows[] = {64, 96, 128, 160, 192, 224, 256};

// How a weight is dealt to blocks, or to pairs of them.
struct PanelPlan {
  int32_t rows;  // of a panel: one of kPanelRows
  // Parts of a panel's columns, each a block's. REQUIRES: 1, or all blocks run
  // at once.
  int32_t splits;
};

// FoldedNorm of y, as its tiles leave.
struct PanelNormAfter {
  const void* weight;  // [n] bfloat16
  void* out;           // [m, n]
  float* squares;      // null: no norm follows
};

// FoldedNorm that x is the `out` of.
struct PanelNormBefore {
  const float* squares;  // null: x is as it is
  int32_t num_squares;   // of a row
  float share;           // of a column in the mean
  float epsilon;
};

struct PanelGemmArgs {
  void* y;           // [m, n], bfloat16 or float; n / 2 columns if gated
  const void* bias;  // [n] bfloat16, or null
  // [blocks, rows of a panel, kPanelTokens], if split; all bytes 0xff before
  // the first launch, as each leaves them.
  float* partials;
  int64_t y_stride;  // elements
  int32_t m;
  int32_t n;
  int32_t num_units;   // pieces along k
  int32_t num_panels;  // the last may be beyond n
  int32_t splits;
  // 1, or 2: then blocks are clusters of two, with kPanelTokens each, that
  // share what they load of the weight.
  int32_t token_parts;
  int32_t x_rows;   // that a block copies
  PeerGroup peers;  // that rows of y go to, if there are any
  bool y_is_float;
  bool is_gated;  // y = silu(gate) * up, rows 16 i and 16 i + 8 on of w
  bool adds;      // y += the product; not with float or gates
  PanelNormAfter norm_after;  // with y of bfloat16, not gated, of n columns
  PanelNormBefore norm_before;
};

// `w` maps [n, k] in boxes of `rows` / args.token_parts, `x` [m, k] in boxes of
// args.x_rows, both by kPanelCols with a swizzle of 128 bytes. A cluster takes
// one split of a panel, and of those `num_clusters` / args.splits after it.
// REQUIRES: m is at most kPanelTokens times token_parts; norms before and after
// are of one part, and have no peers.
cudaError_t LaunchPanelGemm(const CUtensorMap& w, const CUtensorMap& x,
                            const PanelGemmArgs& args, int32_t rows,
                            int32_t num_clusters, cudaStream_t stream);

// How many clusters of two blocks the current device runs at once.
cudaError_t NumPanelPairs(int32_t* num_pairs);

}  // namespace quire

#endif  // KERNELS_CUDA_PANEL_KERNEL_H_
