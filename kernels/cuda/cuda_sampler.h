// SPDX-License-Identifier: Apache-2.0
//
// SampleShard on a device: rows and lists there, results back.
#ifndef KERNELS_CUDA_CUDA_SAMPLER_H_
#define KERNELS_CUDA_CUDA_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/device_wait.h"
#include "kernels/sample.h"

namespace quire {

// Buffers grow to the largest call. Thread-compatible.
class CudaSampler {
 public:
  CudaSampler(cudaStream_t stream, DeviceWait wait);

  // Logits are device memory; rows, their lists, summaries and candidates are
  // host memory. Returns when the results are there. Rows that want more
  // candidates than the device sorts are finished by the host, from their
  // logits: milliseconds each.
  absl::Status Run(const SampleShardParams& params);

 private:
  absl::Status Reserve(const SampleShardParams& params, int64_t input_bytes);
  absl::Status FinishOnHost(const SampleShardParams& params, int32_t row_idx);

  const cudaStream_t stream_;
  const DeviceWait wait_;
  std::unique_ptr<DeviceBuffer> host_input_, input_;
  std::unique_ptr<DeviceBuffer> host_output_, output_;
  std::unique_ptr<DeviceBuffer> workspace_;
  std::vector<float> host_logits_;
  ThreadTeam one_thread_;
  ThreadScratch scratch_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_SAMPLER_H_
