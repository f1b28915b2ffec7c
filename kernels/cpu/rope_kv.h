// SPDX-License-Identifier: Apache-2.0
//
// Rotary embedding, and writing keys and values to the paged cache, on the CPU.
#ifndef KERNELS_CPU_ROPE_KV_H_
#define KERNELS_CPU_ROPE_KV_H_

#include "kernels/attention.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

// Model dtype: the cache layout's. The K part of `qkv` is left as it was. A
// padding token (slot -1) is skipped altogether.
void RopeWriteKvCpu(const RopeWriteKvParams& params, const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_ROPE_KV_H_
