// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/block_swapper.h"

#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/swap_blocks.h"

namespace quire {

BlockSwapper::~BlockSwapper() {
  if (swap_stream_ != nullptr) cudaStreamSynchronize(swap_stream_);
  if (computed_ != nullptr) cudaEventDestroy(computed_);
  if (swapped_ != nullptr) cudaEventDestroy(swapped_);
  if (swap_stream_ != nullptr) cudaStreamDestroy(swap_stream_);
}

absl::Status BlockSwapper::Init() {
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaStreamCreateWithFlags(&swap_stream_, cudaStreamNonBlocking),
      "stream");
  for (cudaEvent_t* event : {&computed_, &swapped_}) {
    QUIRE_RETURN_IF_CUDA_ERROR(
        cudaEventCreateWithFlags(event, cudaEventDisableTiming), "event");
  }
  return absl::OkStatus();
}

absl::Status BlockSwapper::Swap(const BlockCopyParams& params,
                                cudaMemcpyKind direction,
                                const char* operation) {
  if (params.num_pairs <= 0) return absl::OkStatus();
  // Blocks hold what was enqueued before; what follows waits only where it
  // reads or writes blocks, so that products go on beside the copies.
  QUIRE_RETURN_IF_CUDA_ERROR(cudaEventRecord(computed_, stream_), operation);
  QUIRE_RETURN_IF_CUDA_ERROR(cudaStreamWaitEvent(swap_stream_, computed_, 0),
                             operation);
  QUIRE_RETURN_IF_CUDA_ERROR(SwapBlocksCuda(params, direction, swap_stream_),
                             operation);
  is_swapping_ = true;
  return CudaStatus(cudaEventRecord(swapped_, swap_stream_), operation);
}

absl::Status BlockSwapper::Join() {
  if (!is_swapping_) return absl::OkStatus();
  is_swapping_ = false;
  return CudaStatus(cudaStreamWaitEvent(stream_, swapped_, 0), "swapping");
}

}  // namespace quire
