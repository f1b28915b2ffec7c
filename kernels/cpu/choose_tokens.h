// SPDX-License-Identifier: Apache-2.0
//
// Tokens of rows that ask for nothing but noise, on the CPU.
#ifndef KERNELS_CPU_CHOOSE_TOKENS_H_
#define KERNELS_CPU_CHOOSE_TOKENS_H_

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/sample.h"

namespace quire {

// Threads and `scratch` as SampleShardCpu's, which it calls.
void ChooseTokensCpu(const ChooseTokensParams& params, const ThreadTeam& team,
                     ThreadScratch* scratch);

// Allocates nothing.
void MergeChoicesCpu(const MergeChoicesParams& params);

}  // namespace quire

#endif  // KERNELS_CPU_CHOOSE_TOKENS_H_
