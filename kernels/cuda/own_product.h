// SPDX-License-Identifier: Apache-2.0
//
// What our own products on Hopper have in common.
#ifndef KERNELS_CUDA_OWN_PRODUCT_H_
#define KERNELS_CUDA_OWN_PRODUCT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/cuda/plain_gemm.h"

namespace quire {

// Counted up with each change of their speed: choices between them and others
// that were kept before are passed over.
inline constexpr int kOwnProductsVersion = 3;

// Multiprocessors of the current device; 0 if it has not the instructions that
// our own products are made of.
absl::StatusOr<int32_t> NumHopperMultiprocessors();

// Whether it is of bfloat16, and its sizes, strides and addresses are what the
// copies to and from shared memory want. The rows are the caller's matter.
bool IsOwnProduct(const PlainGemmParams& params);

}  // namespace quire

#endif  // KERNELS_CUDA_OWN_PRODUCT_H_
