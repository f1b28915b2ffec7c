// SPDX-License-Identifier: Apache-2.0
//
// Parameters of mixtures of experts (arXiv 2401.04088): a router sends every
// token to its `top_k` experts, which multiply only their own tokens.
//
// Pair (t, i) is token t at its i-th best expert, i < top_k; its number is
// t * top_k + i. Products run over rows: the pairs in another order, all of
// expert 0 first, then those of expert 1 ... T is the model dtype.
#ifndef KERNELS_MOE_H_
#define KERNELS_MOE_H_

#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/gemm.h"

namespace quire {

constexpr int32_t kMaxExperts = 1024;
constexpr int32_t kMaxExpertsPerToken = 32;

// Chooses each token's experts, and groups the pairs by expert. An expert's
// weight is its softmax over all experts; equal weights go to the lower number.
// A token whose logits are not numbers, as padding's may be, still gets
// top_k different experts.
// REQUIRES: 1 <= top_k <= num_experts <= kMaxExperts, top_k <=
// kMaxExpertsPerToken.
struct RouteTokensParams {
  const float* logits;  // [num_tokens, logits_stride], num_experts of each
  int64_t logits_stride;
  int32_t num_experts;
  int32_t top_k;
  int32_t num_tokens;
  bool renormalize;  // a token's weights are divided by their sum

  float* weights;         // [num_tokens, top_k] by falling weight
  int32_t* experts;       // [num_tokens, top_k] of the same pairs
  int32_t* row_tokens;    // [num_tokens * top_k] each row's token
  int32_t* pair_rows;     // [num_tokens, top_k] each pair's row
  int32_t* expert_start;  // [num_experts + 1] rows before each expert's
};

// y[r] = x[row_tokens[r]] W_e^T for the rows r of each expert e. A row's result
// depends on that row and its expert alone, bitwise: not on the row's place,
// nor on the rows of the same expert.
struct ExpertGemmParams {
  const void* x;                // [*, k] T
  const int32_t* row_tokens;    // [num_rows] rows of x; null: row r reads x[r]
  const PackedWeight* weight;   // of Backend::PackExperts: [num_experts, n, k]
  const int32_t* expert_start;  // [num_experts + 1]
  void* y;                      // [num_rows, n]
  DType y_dtype;                // T or kF32
  int32_t num_experts;
  int32_t num_rows;  // expert_start[num_experts]
};

// out[t] = sum over i < top_k, in this order, of weights[t, i] * y[row of
// (t, i)], and then sigmoid(gate[t]) * shared[t], summed in float.
struct CombineExpertsParams {
  const void* y;             // [num_tokens * top_k, width] of `dtype`
  DType dtype;               // T or kF32
  const int32_t* pair_rows;  // [num_tokens, top_k]
  const float* weights;      // [num_tokens, top_k]
  const void* shared;        // [num_tokens, width] of `dtype`, or null
  const float* gate;         // [num_tokens] `gate_stride` apart, or null for 1
  int64_t gate_stride;
  void* out;  // [num_tokens, width] of `dtype`; may alias `shared`
  int32_t width;
  int32_t top_k;
  int32_t num_tokens;
};

}  // namespace quire

#endif  // KERNELS_MOE_H_
