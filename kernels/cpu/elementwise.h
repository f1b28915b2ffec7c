// SPDX-License-Identifier: Apache-2.0
//
// Embedding rows, learned positions, gathered rows and sums on the CPU.
#ifndef KERNELS_CPU_ELEMENTWISE_H_
#define KERNELS_CPU_ELEMENTWISE_H_

#include "kernels/cpu/thread_team.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

// `dtype` is T of the parameters.
void EmbeddingCpu(const EmbeddingParams& params, DType dtype,
                  const ThreadTeam& team);
void AddRowsCpu(const AddRowsParams& params, DType dtype,
                const ThreadTeam& team);
void GatherRowsCpu(const GatherRowsParams& params, DType dtype,
                   const ThreadTeam& team);
void CopyRunsCpu(const CopyRunsParams& params);
void AddCpu(const AddParams& params, DType dtype, const ThreadTeam& team);

}  // namespace quire

#endif  // KERNELS_CPU_ELEMENTWISE_H_
