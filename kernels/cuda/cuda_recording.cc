// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_recording.h"

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"

namespace quire {

absl::StatusOr<std::unique_ptr<CudaRecording>> CudaRecording::Capture(
    const std::function<absl::Status()>& enqueue, cudaStream_t stream) {
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
      "recording");
  const absl::Status enqueued = enqueue();
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  if (!enqueued.ok()) {
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // the capture's own, which is over
    return enqueued;
  }
  QUIRE_RETURN_IF_CUDA_ERROR(ended, "recording");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  QUIRE_RETURN_IF_CUDA_ERROR(made, "making a graph");
  auto recording = absl::WrapUnique(new CudaRecording(executable));
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGraphUpload(executable, stream),
                             "uploading a graph");
  return recording;
}

CudaRecording::~CudaRecording() { cudaGraphExecDestroy(graph_); }

absl::Status CudaRecording::Launch(cudaStream_t stream) const {
  return CudaStatus(cudaGraphLaunch(graph_, stream), "a recorded step");
}

}  // namespace quire
