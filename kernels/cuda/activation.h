// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_ACTIVATION_H_
#define KERNELS_CUDA_ACTIVATION_H_

#include "cuda_runtime.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

// kSiluMul of rows whose gates take turns: see kGatedRows. REQUIRES: `width` is
// a multiple of it.
cudaError_t LaunchSiluMulInTurnsCuda(const ActivationParams& params,
                                     DType dtype, cudaStream_t stream);

cudaError_t LaunchActivationCuda(const ActivationParams& params, DType dtype,
                                 cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_ACTIVATION_H_
