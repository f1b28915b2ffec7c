// SPDX-License-Identifier: Apache-2.0
//
// y = x W^T + bias, for a weight that was packed once at load.
#ifndef KERNELS_GEMM_H_
#define KERNELS_GEMM_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace quire {

// A matrix in host memory, possibly a slice of a larger one.
struct HostMatrix {
  const void* data;  // [rows, cols], `row_stride` elements from row to row
  DType dtype;
  int64_t rows;
  int64_t cols;
  int64_t row_stride;
};

// A weight [n, k] in whatever arrangement its backend multiplies fastest.
// Immutable and safe to share between threads.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;

  int64_t n() const { return n_; }  // output features
  int64_t k() const { return k_; }  // input features
  int64_t bytes() const { return bytes_; }

 protected:
  PackedWeight(int64_t n, int64_t k, int64_t bytes)
      : n_(n), k_(k), bytes_(bytes) {}

 private:
  int64_t n_;
  int64_t k_;
  int64_t bytes_;
};

struct PeerGroup;  // kernels/cuda/all_reduce.h

// A root-mean-square norm between two products, as parts of both: 1 / rms is a
// factor of a row, which the product that reads the row may as well apply to
// what it computed. Rows of `out` and sums of squares come from the first.
struct FoldedNorm {
  static constexpr int32_t kColumns = 32;   // of a sum of squares
  static constexpr int32_t kMaxRows = 128;  // m at most

  const void* weight;  // [width] model dtype
  void* out;           // [m, width] model dtype: y * weight
  float* squares;      // [ceil(width / kColumns), kMaxRows] of y
  float epsilon;
};

struct GemmParams {
  const void* x;     // [m, k], model dtype
  int64_t x_stride;  // elements from row to row
  const PackedWeight* weight;
  const void* bias;  // [n] in the model dtype, or null
  void* y;           // [m, n]
  int64_t y_stride;  // elements from row to row
  DType y_dtype;     // the model dtype, or kF32
  int32_t m;
  // y += x W^T + bias, which may be rounded to y's dtype before. REQUIRES:
  // Backend::adds_products(); y_dtype is the model dtype.
  bool adds = false;
  // Ranks whose inboxes get y as it is stored, for the sum over ranks that
  // follows (Collective::SumSent), or null. REQUIRES: Backend::CanSend(*this).
  const PeerGroup* peers = nullptr;
  // Every rank computes it and must find the same bits: how follows from sizes
  // and options alone, never from what was faster.
  bool is_alike = false;
  // The norm of y that follows, or null. REQUIRES: Backend::CanFoldNorm().
  const FoldedNorm* norm_after = nullptr;
  // The norm that x is the `out` of, whose other part was the `norm_after` of a
  // product before, or null: x is as it is.
  const FoldedNorm* norm_before = nullptr;
};

// y = silu(x gate^T) * (x up^T), as an MLP with gates begins.
struct GatedGemmParams {
  const void* x;               // [m, k], rows one behind the other
  const PackedWeight* weight;  // [n, k] of Backend::PackGated()
  void* products;              // [m, n] model dtype: room, if it takes any
  void* y;                     // [m, n / 2] model dtype
  int32_t m;
  const FoldedNorm* norm_before = nullptr;  // see GemmParams
};

}  // namespace quire

#endif  // KERNELS_GEMM_H_
