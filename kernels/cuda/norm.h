// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_NORM_H_
#define KERNELS_CUDA_NORM_H_

#include "cuda_runtime.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

// One block a row: the residual's addition and the norm in one pass over
// memory. A row's sums depend on its width alone.
cudaError_t LaunchNormCuda(const NormParams& params, DType dtype,
                           cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_NORM_H_
