// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_GATED_ROWS_H_
#define KERNELS_CUDA_GATED_ROWS_H_

namespace quire {

// Gates and what they let through lie in a weight in turns of so many rows, and
// as many columns of its products: eight rows of gates, eight of values, eight
// of gates. A thread of a tensor core's warp holds the sums of both.
inline constexpr int kGatedRows = 8;

}  // namespace quire

#endif  // KERNELS_CUDA_GATED_ROWS_H_
