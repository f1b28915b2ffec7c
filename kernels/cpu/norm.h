// SPDX-License-Identifier: Apache-2.0
//
// RMS and layer normalisation on the CPU, with the residual sum before it.
#ifndef KERNELS_CPU_NORM_H_
#define KERNELS_CPU_NORM_H_

#include "kernels/cpu/thread_team.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

// `dtype` is T of the parameters. What is normalised is the residual as
// stored, rounded to T. One thread owns a row. REQUIRES: `out` aliases `x`
// only if x_dtype is T.
void NormCpu(const NormParams& params, DType dtype, const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_NORM_H_
