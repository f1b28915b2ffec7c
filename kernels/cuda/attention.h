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

// Of a workspace before its first use (kernels/cuda/left_sums.cuh).
inline constexpr int kAttentionEmptyByte = 0xff;
// The first bytes of a workspace of AttentionCudaWorkspaceBytes(), which are so
// between launches, too: decodes leave states of split sequences there.
inline constexpr int64_t kAttentionStateBytes = int64_t{64} << 20;

// What the launch needs to know beside the operation's own parameters. The
// arrays of AttentionParams are device memory and stay there: the launch plans
// on the device, so that it can be captured in a graph.
struct AttentionCudaOptions {
  // Device memory, 256-byte aligned, that one stream at a time uses and nobody
  // else writes to. Before its first use all bytes are kAttentionEmptyByte.
  void* workspace;
  // At least AttentionCudaWorkspaceBytes() of the largest step; of less, where
  // states lie depends on the step, and it is to be emptied between them.
  int64_t workspace_bytes;
  int32_t num_sms;  // at most the device's are used
  // The most new tokens of any one sequence of the step, or an upper bound;
  // 1: all are decodes. 0: unknown. Kernels that this and
  // AttentionParams::min_new_tokens leave without work are not launched.
  int32_t max_query;
  // A token's row has the same bits whether it came in a prefill or as a decode
  // (up to four new tokens of its sequence). Without this prefills may run on
  // faster kernels of their own; what a row is then depends on which of the two
  // it came in, and still on nothing else of the batch.
  bool is_deterministic;
  // The plan that the previous launch left in the workspace holds for this one:
  // the same step in another layer, where only q, out, cache.base and
  // cache.layer_idx differ (and nothing that query_start, context_lens and
  // seq_slots point to). Saves a kernel a layer.
  bool reuse_plan;
};

// The order of a cache of blocks that LaunchAttentionCuda() reads fastest on
// the current device.
KvOrder AttentionCudaOrder(const KvLayout& layout);

// Bytes of workspace for steps of at most these sizes; head_dim in elements.
int64_t AttentionCudaWorkspaceBytes(int32_t max_tokens, int32_t num_q_heads,
                                    int32_t head_dim, int32_t num_sms);

// Enqueues. Which bits come out depends on a row's query and its keys and
// values alone (kernels/cuda/attention_plan.h): not on the batch, the block
// size, the workspace or, but for is_deterministic, chunks. A row without keys
// gives zeros. bfloat16 with
// head dims of 64, 80, 96, 128 and 256 runs on tensor cores, what else there is
// runs slowly. cudaErrorNotSupported for a head dim beyond 256;
// cudaErrorInvalidValue for too small a workspace.
// REQUIRES: scale > 0; cache, q and q_stride aligned to 16 bytes.
cudaError_t LaunchAttentionCuda(const AttentionParams& params,
                                const AttentionCudaOptions& options,
                                cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_ATTENTION_H_
