// SPDX-License-Identifier: Apache-2.0
//
// Routing tokens to experts and adding up what these say, on the CPU.
#ifndef KERNELS_CPU_MOE_H_
#define KERNELS_CPU_MOE_H_

#include "kernels/cpu/thread_team.h"
#include "kernels/moe.h"

namespace quire {

// Rows of an expert are in the order of their pairs.
void RouteTokensCpu(const RouteTokensParams& params, const ThreadTeam& team);
void CombineExpertsCpu(const CombineExpertsParams& params,
                       const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_MOE_H_
