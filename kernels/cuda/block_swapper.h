// SPDX-License-Identifier: Apache-2.0
//
// Blocks on their way between the device and the host, beside what the device
// computes.
#ifndef KERNELS_CUDA_BLOCK_SWAPPER_H_
#define KERNELS_CUDA_BLOCK_SWAPPER_H_

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/attention.h"

namespace quire {

// A stream of its own, in step with `stream` by events. Thread-compatible.
class BlockSwapper {
 public:
  explicit BlockSwapper(cudaStream_t stream) : stream_(stream) {}
  ~BlockSwapper();
  BlockSwapper(const BlockSwapper&) = delete;
  BlockSwapper& operator=(const BlockSwapper&) = delete;

  absl::Status Init();
  // Copies after what is enqueued on `stream` so far.
  absl::Status Swap(const BlockCopyParams& params, cudaMemcpyKind direction,
                    const char* operation);
  // Lets what follows on `stream` wait for swaps that are on their way.
  absl::Status Join();

 private:
  const cudaStream_t stream_;
  cudaStream_t swap_stream_ = nullptr;
  cudaEvent_t computed_ = nullptr, swapped_ = nullptr;
  bool is_swapping_ = false;
};

}  // namespace quire

#endif  // KERNELS_CUDA_BLOCK_SWAPPER_H_
