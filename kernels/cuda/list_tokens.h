// SPDX-License-Identifier: Apache-2.0
//
// The two halves of a listed choice (kernels/listed_choice.h). Listing is what
// choose_filtered.h does before it chooses; merging is one block a row.
#ifndef KERNELS_CUDA_LIST_TOKENS_H_
#define KERNELS_CUDA_LIST_TOKENS_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/listed_choice.h"

namespace quire {

// What one launch needs.
int64_t ListTokensWorkspaceBytes(const ListTokensParams& params,
                                 int32_t num_sms);

// `arrivals` is device memory, a word for each row, that was set to zeros once;
// one stream at a time uses it and `workspace`.
cudaError_t LaunchListTokensCuda(const ListTokensParams& params,
                                 int32_t* arrivals, void* workspace,
                                 int32_t num_sms, cudaStream_t stream);

cudaError_t LaunchMergeListsCuda(const MergeListsParams& params,
                                 cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_LIST_TOKENS_H_
