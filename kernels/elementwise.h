// SPDX-License-Identifier: Apache-2.0
//
// Parameters of the operations between the matrix products. T is the model
// dtype; T tensors are `void*`. Rows are contiguous unless a stride is given.
#ifndef KERNELS_ELEMENTWISE_H_
#define KERNELS_ELEMENTWISE_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace quire {

// out[t] = table[ids[t] - first_id], or zeros where the id is another rank's
// (vocabulary-parallel embedding: the ranks' rows add up to the whole). A
// negative id says where the device itself put the token: sampled[~id].
struct EmbeddingParams {
  const int32_t* ids;  // [num_tokens]
  const void* table;   // [num_rows, width]
  void* out;           // [num_tokens, width]
  int32_t first_id;    // id of the table's row 0
  int32_t num_rows;
  int32_t width;
  int32_t num_tokens;
  const int32_t* sampled = nullptr;  // null: negative ids are nobody's
};

// Runs of words to their places: out[to + i] = values[from + i], i < count.
// Runs do not overlap in `out`.
struct WordRun {
  int32_t from;
  int32_t to;
  int32_t count;
};

struct CopyRunsParams {
  const WordRun* runs;    // [num_runs]
  const int32_t* values;  // [*]
  int32_t* out;           // [*]
  int32_t num_runs;
};

// x[t] += table[indices[t] + offset] (learned positions).
struct AddRowsParams {
  void* x;                 // [num_tokens, width]
  const void* table;       // [rows, width]
  const int32_t* indices;  // [num_tokens]
  int32_t offset;
  int32_t width;
  int32_t num_tokens;
};

// out[r] = x[rows[r]].
struct GatherRowsParams {
  const void* x;        // [*, width]
  const int32_t* rows;  // [num_rows]
  void* out;            // [num_rows, width]
  int32_t width;
  int32_t num_rows;
};

enum class NormKind : uint8_t { kRms, kLayer };

// With a residual: residual += x, then out = norm(residual). Without one:
// out = norm(x). Sums are kept in float; `residual` is rounded to T once.
// `out` may alias `residual` (post-norm) or `x`.
//
// Rows of x and out lie one behind the other; or, to norm some heads of each
// token where they are, `rows_per_group` of them do, and groups are
// `group_stride` apart. REQUIRES: no residual then.
struct NormParams {
  NormKind kind;
  const void* x;       // [num_tokens, width]
  DType x_dtype;       // T, or kF32 for a reduced partial sum
  void* residual;      // [num_tokens, width] T, or null
  const void* weight;  // [width] T, or null for ones
  const void* bias;    // [width] T, or null for zeros
  void* out;           // [num_tokens, width] T
  float epsilon;
  int32_t width;
  int32_t num_tokens;          // rows
  int32_t rows_per_group = 0;  // 0: all rows are one group
  int64_t group_stride = 0;    // elements

  // Elements before a row.
  constexpr int64_t RowStart(int64_t row) const {
    return rows_per_group == 0 ? row * width
                               : row / rows_per_group * group_stride +
                                     row % rows_per_group * width;
  }
};

// out = a + b. `out` may alias either.
struct AddParams {
  const void* a;  // [n]
  DType a_dtype;  // T or kF32
  const void* b;  // [n] T
  void* out;      // [n] T
  int64_t n;
};

// kSiluMul reads [gate, up] rows: out = silu(gate) * up.
enum class ActivationKind : uint8_t { kSiluMul, kRelu, kGelu, kGeluTanh };

struct ActivationParams {
  ActivationKind kind;
  const void* x;  // [num_tokens, 2 * width] for kSiluMul, else [., width]
  void* out;      // [num_tokens, width]; may alias x unless kSiluMul
  int32_t width;
  int32_t num_tokens;
};

}  // namespace quire

#endif  // KERNELS_ELEMENTWISE_H_
