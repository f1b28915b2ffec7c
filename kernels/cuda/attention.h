// SPDX-License-Identifier: Apache-2.0
//
// Attention over the paged cache on a CUDA device. Plain declarations, read by
// nvcc and host compilers alike.
#ifndef KERNELS_CUDA_ATTENTION_H_
#define KERNELS_CUDA_ATTENTION_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/attention.h"

namespace quire {

// What the launch needs to know beside the operation's own parameters. The
// arrays of AttentionParams are device memory and stay there: the launch plans
// on the device, so that it can be captured in a graph.
struct AttentionCudaOptions {
  void* workspace;  // device memory, AttentionCudaWorkspaceBytes() of it
  int64_t workspace_bytes;
  int32_t num_sms;
  // The longest context of the step in tokens, or an upper bound of it: it
  // sizes grids, never results. 0: as many as a block table's row holds.
  int32_t max_context;
  // The most new tokens of any one sequence of the step, or an upper bound;
  // 1: all are decodes.
  int32_t max_query;
  bool is_deterministic;  // splits do not depend on the batch
};

// Bytes of workspace for steps of at most these sizes; head_dim in elements.
int64_t AttentionCudaWorkspaceBytes(int32_t max_tokens, int32_t num_q_heads,
                                    int32_t head_dim, int32_t num_sms);

// Enqueues. cudaErrorNotSupported for a head dim, a group of heads or a block
// size that no kernel was built for.
cudaError_t LaunchAttentionCuda(const AttentionParams& params,
                                const AttentionCudaOptions& options,
                                cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_ATTENTION_H_
