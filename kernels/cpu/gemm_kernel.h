// SPDX-License-Identifier: Apache-2.0
//
// The innermost loops of the packed product: a few rows times one panel.
//
// Each output element is one lane of one float accumulator, to which the
// products are added in order of k, whatever the number of rows. That is what
// makes a row's result independent of the others, bitwise.
#ifndef KERNELS_CPU_GEMM_KERNEL_H_
#define KERNELS_CPU_GEMM_KERNEL_H_

#include <cstdint>

#include "kernels/cpu/packed_panels.h"
#include "kernels/dtype.h"

namespace quire {

struct GemmTile {
  const uint32_t* a;      // groups of x, arranged as the kernel wants them
  int64_t a_stride;       // groups from row to row, if arranged by rows
  const uint32_t* panel;  // [num_steps, kPanelLanes] groups of the weight
  float* sums;            // [rows, kPanelLanes]
  const char* prefetch;   // 2 cache lines from here on are fetched each step
  int64_t num_steps;
  int32_t rows;  // [1, max_rows]
  bool resume;   // go on from `sums` (an exact float), else from zero
};

struct GemmKernel {
  void (*run)(const GemmTile&);
  int32_t max_rows;  // as many as the registers hold sums for
  bool by_rows;      // `a` is [rows, a_stride], else [num_steps, rows]
  const char* name;
};

// The fastest kernel that this machine runs. bfloat16 products use AMX or
// AVX512_BF16 where present (pairs of k in one instruction, denormals flushed),
// else float FMA; these round differently, so streams are bitwise equal among
// machines of the same kind.
GemmKernel ChooseGemmKernel(DType dtype);

// y[i] = sums[i] + bias[i], converted. `bias` may be null.
struct GemmStore {
  const float* sums;  // [count]
  const void* bias;   // [count] model dtype, or null
  DType bias_dtype;
  void* y;  // [count]
  DType y_dtype;
  int64_t count;
};
void StoreGemmRow(const GemmStore& store);

}  // namespace quire

#endif  // KERNELS_CPU_GEMM_KERNEL_H_
