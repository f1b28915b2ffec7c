// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CPU_KEY_BOUNDS_H_
#define KERNELS_CPU_KEY_BOUNDS_H_

#include "kernels/attention.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

// Model dtype: the cache layout's, in which bounds are exact. Two tokens that
// fill the same block write the same bits.
void UpdateKeyBoundsCpu(const UpdateKeyBoundsParams& params,
                        const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_KEY_BOUNDS_H_
