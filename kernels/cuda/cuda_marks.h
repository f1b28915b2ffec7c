// SPDX-License-Identifier: Apache-2.0
//
// Where a stream's steps begin and end, and how long it had nothing to do
// between two.
#ifndef KERNELS_CUDA_CUDA_MARKS_H_
#define KERNELS_CUDA_CUDA_MARKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/device_wait.h"

namespace quire {

// The marks of Backend, whose indices these are. Any thread may Wait(); one at
// a time calls all else.
class CudaMarks {
 public:
  CudaMarks(cudaStream_t stream, DeviceWait wait)
      : stream_(stream), wait_(wait) {}
  ~CudaMarks();
  CudaMarks(const CudaMarks&) = delete;
  CudaMarks& operator=(const CudaMarks&) = delete;

  // On the stream's device. Without `measures_idleness` beginnings are not
  // marked.
  absl::Status Init(bool measures_idleness);
  absl::Status Begin(int32_t index);
  absl::Status End(int32_t index);
  absl::Status Wait(int32_t index) const;
  // From the end of one to the beginning of another; 0 if either was never
  // marked.
  double IdleSeconds(int32_t before, int32_t index) const;

 private:
  const cudaStream_t stream_;
  const DeviceWait wait_;
  int device_ = 0;                               // the stream's
  cudaEvent_t begins_[Backend::kNumMarks] = {};  // null: not measured
  cudaEvent_t ends_[Backend::kNumMarks] = {};
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_MARKS_H_
