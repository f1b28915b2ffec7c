// SPDX-License-Identifier: Apache-2.0
//
// The stages of log probabilities from shards (kernels/shard_logprobs.h): a
// thread a row, then one reading of the shard, then a block a row.
#ifndef KERNELS_CUDA_SHARD_LOGPROBS_H_
#define KERNELS_CUDA_SHARD_LOGPROBS_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/shard_logprobs.h"

namespace quire {

// What one launch needs.
int64_t ShardLogprobsWorkspaceBytes(const ShardLogprobsParams& params,
                                    int32_t num_sms);

// `counters` is device memory, two words for each row, that was set to zeros
// once; one stream at a time uses it and `workspace`.
cudaError_t LaunchShardLogprobsCuda(const ShardLogprobsParams& params,
                                    int32_t* counters, void* workspace,
                                    int32_t num_sms, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_SHARD_LOGPROBS_H_
