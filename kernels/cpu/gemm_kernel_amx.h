// SPDX-License-Identifier: Apache-2.0
//
// The packed product's bfloat16 kernel on AMX tiles.
#ifndef KERNELS_CPU_GEMM_KERNEL_AMX_H_
#define KERNELS_CPU_GEMM_KERNEL_AMX_H_

#include <optional>

#include "kernels/cpu/gemm_kernel.h"

namespace quire {

// None where the processor lacks the instructions or the kernel their state.
std::optional<GemmKernel> AmxGemmKernel();

}  // namespace quire

#endif  // KERNELS_CPU_GEMM_KERNEL_AMX_H_
