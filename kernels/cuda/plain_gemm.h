// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_PLAIN_GEMM_H_
#define KERNELS_CUDA_PLAIN_GEMM_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/dtype.h"

namespace quire {

struct FoldedNorm;  // kernels/gemm.h
struct PeerGroup;   // kernels/cuda/all_reduce.h

// y = x W^T + bias.
struct PlainGemmParams {
  const void* x;     // [m, k]
  int64_t x_stride;  // elements from row to row
  const void* w;     // [n, k], dense
  const void* bias;  // [n] in `dtype`, or null
  void* y;           // [m, n]
  int64_t y_stride;
  int64_t m, n, k;
  DType dtype;  // of x, w and bias
  DType y_dtype;
  // y += x W^T + bias. The product may be rounded to y's dtype before: by our
  // own kernel of few rows it is not. REQUIRES: y_dtype is dtype.
  bool adds = false;
  // y [m, n / 2] = silu(g) * u, whose rows of w take turns: see kGatedRows.
  // REQUIRES: no bias, not `adds`, y_dtype is dtype.
  bool is_gated = false;
  const PeerGroup* peers = nullptr;         // GemmParams::peers
  bool is_alike = false;                    // GemmParams::is_alike
  const FoldedNorm* norm_after = nullptr;   // GemmParams::norm_after
  const FoldedNorm* norm_before = nullptr;  // GemmParams::norm_before
};

// To 16 bytes; null is.
inline bool IsAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Whether our own products of few and of some rows may be given peers, too: the
// result is rows of bfloat16, one behind the other.
inline bool IsSendable(const PlainGemmParams& params) {
  return params.y_dtype == DType::kBf16 && !params.adds && !params.is_gated &&
         params.y_stride == params.n;
}

// Whether a norm of the result may follow in panels: rows of bfloat16, one
// behind the other, that no peer gets.
inline bool IsFoldable(const PlainGemmParams& params) {
  return params.y_dtype == DType::kBf16 && !params.is_gated &&
         params.y_stride == params.n && params.peers == nullptr;
}

// In fused multiply-adds of floats, for sizes and addresses that no other
// product takes. Any strides, no alignment beyond an element's. A row's result
// depends on that row alone. REQUIRES: not gated, no peers.
cudaError_t LaunchPlainGemmCuda(const PlainGemmParams& params,
                                cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_PLAIN_GEMM_H_
