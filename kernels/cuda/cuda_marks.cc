// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_marks.h"

#include <algorithm>

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_wait.h"

namespace quire {

CudaMarks::~CudaMarks() {
  for (cudaEvent_t event : begins_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  for (cudaEvent_t event : ends_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

absl::Status CudaMarks::Init(bool measures_idleness) {
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device_), "current device");
  for (cudaEvent_t& event : begins_) {
    if (!measures_idleness) break;
    QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreate(&event), "event");
  }
  // Without cudaEventBlockingSync: a thread that an interrupt wakes hears of a
  // step's end when the next token could be on its way.
  const unsigned timing = measures_idleness ? 0 : cudaEventDisableTiming;
  for (cudaEvent_t& event : ends_) {
    QUIRE_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event, timing),
                               "event");
  }
  return absl::OkStatus();
}

absl::Status CudaMarks::Begin(int32_t index) {
  if (begins_[index] == nullptr) return absl::OkStatus();
  return CudaStatus(cudaEventRecord(begins_[index], stream_), "a mark");
}

absl::Status CudaMarks::End(int32_t index) {
  return CudaStatus(cudaEventRecord(ends_[index], stream_), "a mark");
}

absl::Status CudaMarks::Wait(int32_t index) const {
  // A thread that has no device yet would begin with GPU 0's.
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(device_), "choosing the GPU");
  return CudaStatus(WaitForEvent(ends_[index], wait_), "a step");
}

double CudaMarks::IdleSeconds(int32_t before, int32_t index) const {
  if (begins_[index] == nullptr) return 0;
  float ms = 0;
  if (cudaEventElapsedTime(&ms, ends_[before], begins_[index]) != cudaSuccess) {
    cudaGetLastError();  // one was never recorded
    return 0;
  }
  return std::max(ms, 0.0f) / 1e3;
}

}  // namespace quire
