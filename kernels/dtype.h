// SPDX-License-Identifier: Apache-2.0
//
// Element types of tensors. Plain data: read by nvcc and host compilers alike.
#ifndef KERNELS_DTYPE_H_
#define KERNELS_DTYPE_H_

#include <cstdint>

namespace quire {

enum class DType : uint8_t { kF32, kBf16 };

constexpr int64_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
constexpr const char* Name(DType dtype) {
  return dtype == DType::kF32 ? "float32" : "bfloat16";
}

}  // namespace quire

#endif  // KERNELS_DTYPE_H_
