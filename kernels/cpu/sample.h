// SPDX-License-Identifier: Apache-2.0
//
// Sampling's share of one rank, on the CPU.
#ifndef KERNELS_CPU_SAMPLE_H_
#define KERNELS_CPU_SAMPLE_H_

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/sample.h"

namespace quire {

// One thread owns a row. Allocates only when `scratch` grows: num_vocab floats
// and a few num_candidates a thread. REQUIRES: `scratch` has a piece for each
// thread of the team.
void SampleShardCpu(const SampleShardParams& params, const ThreadTeam& team,
                    ThreadScratch* scratch);

}  // namespace quire

#endif  // KERNELS_CPU_SAMPLE_H_
