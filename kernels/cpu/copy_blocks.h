// SPDX-License-Identifier: Apache-2.0
//
// Moves of whole KV blocks on the CPU: copy-on-write, swap-out and swap-in are
// all the same copy here.
#ifndef KERNELS_CPU_COPY_BLOCKS_H_
#define KERNELS_CPU_COPY_BLOCKS_H_

#include "kernels/attention.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

void CopyBlocksCpu(const BlockCopyParams& params, const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_COPY_BLOCKS_H_
