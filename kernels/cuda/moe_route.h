// SPDX-License-Identifier: Apache-2.0
//
// Routing tokens to experts and adding up what these say. Nothing waits for
// the host: who has which rows stays on the device.
#ifndef KERNELS_CUDA_MOE_ROUTE_H_
#define KERNELS_CUDA_MOE_ROUTE_H_

#include "cuda_runtime.h"
#include "kernels/dtype.h"
#include "kernels/moe.h"

namespace quire {

// Rows of an expert are in the order of their pairs.
cudaError_t LaunchRouteTokensCuda(const RouteTokensParams& params,
                                  cudaStream_t stream);
cudaError_t LaunchCombineExpertsCuda(const CombineExpertsParams& params,
                                     cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_MOE_ROUTE_H_
