// SPDX-License-Identifier: Apache-2.0
//
// The packed product's bfloat16 kernel on AVX512_BF16, an instruction set that
// Debian's Highway does not know.
#ifndef KERNELS_CPU_GEMM_KERNEL_AVX512BF16_H_
#define KERNELS_CPU_GEMM_KERNEL_AVX512BF16_H_

#include <optional>

#include "kernels/cpu/gemm_kernel.h"

namespace quire {

// None where the processor (or the compiler's target) lacks the instructions.
std::optional<GemmKernel> Avx512Bf16GemmKernel();

}  // namespace quire

#endif  // KERNELS_CPU_GEMM_KERNEL_AVX512BF16_H_
