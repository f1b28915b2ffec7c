// SPDX-License-Identifier: Apache-2.0
//
// The activations between the two products of an MLP, on the CPU.
#ifndef KERNELS_CPU_ACTIVATION_H_
#define KERNELS_CPU_ACTIVATION_H_

#include "kernels/cpu/thread_team.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

// `dtype` is T of the parameters. Computed in float, rounded to T once.
void ActivationCpu(const ActivationParams& params, DType dtype,
                   const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_ACTIVATION_H_
