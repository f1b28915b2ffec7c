// SPDX-License-Identifier: Apache-2.0
//
// Operations of a stream as a CUDA graph: hundreds of kernels in one launch.
#ifndef KERNELS_CUDA_CUDA_RECORDING_H_
#define KERNELS_CUDA_CUDA_RECORDING_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"

namespace quire {

class CudaRecording final : public Recording {
 public:
  // Captures what `enqueue` puts on the stream, without running it. Calls that
  // wait or allocate fail meanwhile, on this thread.
  static absl::StatusOr<std::unique_ptr<CudaRecording>> Capture(
      const std::function<absl::Status()>& enqueue, cudaStream_t stream);
  ~CudaRecording() override;
  CudaRecording(const CudaRecording&) = delete;
  CudaRecording& operator=(const CudaRecording&) = delete;

  absl::Status Launch(cudaStream_t stream) const;

 private:
  explicit CudaRecording(cudaGraphExec_t graph) : graph_(graph) {}

  const cudaGraphExec_t graph_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_RECORDING_H_
