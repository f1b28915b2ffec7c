// SPDX-License-Identifier: Apache-2.0
//
// Log probabilities of chosen tokens, their ranks and the likeliest others, by
// one more reading of the rows that want them.
#ifndef KERNELS_CUDA_TOKEN_LOGPROBS_H_
#define KERNELS_CUDA_TOKEN_LOGPROBS_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/shaped_choice.h"

namespace quire {

int64_t TokenLogprobsWorkspaceBytes(int32_t num_rows, int32_t num_vocab,
                                    int32_t num_sms);

// Of `params.logprob_rows`. Rows whose token is a ChoiceError get anything.
// `counters` is device memory, two words for each row, that was set to zeros
// once; one stream at a time uses it and `workspace`.
cudaError_t LaunchTokenLogprobsCuda(const ShapedChoiceParams& params,
                                    int32_t* counters, void* workspace,
                                    int32_t num_sms, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_TOKEN_LOGPROBS_H_
