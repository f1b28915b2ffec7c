// SPDX-License-Identifier: Apache-2.0
//
// Tokens chosen on the device in one kernel, for rows that need nothing but
// their own logits and noise: all logits are dealt evenly to the blocks that
// run at once, each finds the best of its share of a row, and the row's last
// block to arrive the best of all shares.
#ifndef KERNELS_CUDA_CHOOSE_TOKENS_H_
#define KERNELS_CUDA_CHOOSE_TOKENS_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/sample.h"
#include "kernels/shaped_choice.h"

namespace quire {

int64_t ChooseTokensWorkspaceBytes(int32_t num_rows, int32_t num_vocab);

// `workspace` is device memory of ChooseTokensWorkspaceBytes(max_rows,
// num_vocab) that was set to zeros once; one stream at a time uses it.
// REQUIRES: num_rows <= max_rows.
cudaError_t LaunchChooseTokensCuda(const ChooseTokensParams& params,
                                   void* workspace, int32_t max_rows,
                                   cudaStream_t stream);

// The same of the unfiltered rows of `params`.
// REQUIRES: num_unfiltered <= max_rows.
cudaError_t LaunchChooseUnfilteredCuda(const ShapedChoiceParams& params,
                                       void* workspace, int32_t max_rows,
                                       cudaStream_t stream);

// One thread a row.
cudaError_t LaunchMergeChoicesCuda(const MergeChoicesParams& params,
                                   cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_CHOOSE_TOKENS_H_
