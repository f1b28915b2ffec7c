// SPDX-License-Identifier: Apache-2.0
//
// Products of few rows, bound by reading the weight once: a persistent kernel
// for Hopper whose blocks share the weight evenly, whatever its shape, begin to
// read it while the kernel before is still running, and finish what they
// computed: bias, gates, the residual sum.
#ifndef KERNELS_CUDA_STREAM_GEMM_H_
#define KERNELS_CUDA_STREAM_GEMM_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/plain_gemm.h"
#include "kernels/cuda/stream_kernel.h"
#include "kernels/cuda/tensor_maps.h"

namespace quire {

// Thread-compatible. Device memory: 4.4 MiB. Sums are split at places that
// depend on n, k and the device alone, and added in their order.
class StreamGemm {
 public:
  // Null where the device is not of compute capability 9.0.
  static absl::StatusOr<std::unique_ptr<StreamGemm>> Create(
      cudaStream_t stream);
  StreamGemm(const StreamGemm&) = delete;
  StreamGemm& operator=(const StreamGemm&) = delete;

  // bfloat16 weights and inputs, at most kMaxStreamTokens rows; sizes, strides
  // and addresses multiples of 16 bytes. Gated ones: n is a multiple of 16.
  static bool CanRun(const PlainGemmParams& params);

  // Enqueues; products of one object run one after another.
  // REQUIRES: CanRun(params); no peers, or IsSendable(params).
  absl::Status Run(const PlainGemmParams& params);

 private:
  explicit StreamGemm(cudaStream_t stream) : stream_(stream) {}

  absl::Status Init();
  StreamPlan PlanOf(int64_t n, int64_t k) const;

  const cudaStream_t stream_;
  int num_sms_ = 0;
  TensorMaps maps_;
  std::unique_ptr<DeviceBuffer> partials_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_STREAM_GEMM_H_
