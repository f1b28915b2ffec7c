// SPDX-License-Identifier: Apache-2.0
//
// Each enqueues one kernel. All arrays are device memory (or memory that the
// device reaches); 16 bytes a thread where widths and addresses allow it.
#ifndef KERNELS_CUDA_ELEMENTWISE_H_
#define KERNELS_CUDA_ELEMENTWISE_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/dtype.h"
#include "kernels/elementwise.h"

namespace quire {

cudaError_t LaunchEmbeddingCuda(const EmbeddingParams& params, DType dtype,
                                cudaStream_t stream);
cudaError_t LaunchAddRowsCuda(const AddRowsParams& params, DType dtype,
                              cudaStream_t stream);
cudaError_t LaunchGatherRowsCuda(const GatherRowsParams& params, DType dtype,
                                 cudaStream_t stream);
cudaError_t LaunchAddCuda(const AddParams& params, DType dtype,
                          cudaStream_t stream);

cudaError_t LaunchCopyRunsCuda(const CopyRunsParams& params,
                               cudaStream_t stream);

// out[i] = in[i] in the other dtype, for i < n.
cudaError_t LaunchCastCuda(const void* in, DType in_dtype, void* out,
                           DType out_dtype, int64_t n, cudaStream_t stream);

// Reads `bytes` (a multiple of 16), so that the device's cache holds them and
// nothing that came before. `sink` is a word of device memory.
cudaError_t LaunchReadCuda(const void* data, int64_t bytes, uint32_t* sink,
                           cudaStream_t stream);

// Keeps the stream busy for a while, so that what is enqueued meanwhile runs
// without waiting for the host.
cudaError_t LaunchDelayCuda(int64_t nanoseconds, cudaStream_t stream);

// y[row][i] += bias[i]; y is [num_rows, width] with `y_stride` elements from
// row to row, bias [width] in `bias_dtype`.
cudaError_t LaunchAddBiasCuda(void* y, DType y_dtype, int64_t y_stride,
                              const void* bias, DType bias_dtype, int32_t width,
                              int32_t num_rows, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_ELEMENTWISE_H_
