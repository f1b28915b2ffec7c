// SPDX-License-Identifier: Apache-2.0
//
// The second pass of SampleShard: the best columns of each row.
#ifndef KERNELS_CUDA_SAMPLE_TOP_H_
#define KERNELS_CUDA_SAMPLE_TOP_H_

#include "cuda_runtime.h"
#include "kernels/cuda/sample.h"

namespace quire::sampling {

struct SampleWorkspace;

// After the first pass has filled the workspace.
cudaError_t LaunchTopCandidates(const CudaSampleParams& params,
                                const SampleWorkspace& work,
                                cudaStream_t stream);

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_SAMPLE_TOP_H_
