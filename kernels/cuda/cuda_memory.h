// SPDX-License-Identifier: Apache-2.0
//
// Memory of a device, and pinned memory of the host that devices reach.
#ifndef KERNELS_CUDA_CUDA_MEMORY_H_
#define KERNELS_CUDA_CUDA_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace quire {

// Of the calling thread's current device.
absl::StatusOr<MemoryInfo> GetCudaMemory();

// On the calling thread's current device. ResourceExhausted if it is full.
absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateCuda(int64_t bytes);

// Pinned. ResourceExhausted if the host has not enough to pin.
absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocatePinned(int64_t bytes);

// Makes `buffer` hold at least `bytes`, by `allocate`, with room to grow; what
// it held is lost. REQUIRES: nothing enqueued uses it any more.
absl::Status GrowBuffer(
    int64_t bytes,
    absl::StatusOr<std::unique_ptr<DeviceBuffer>> (*allocate)(int64_t),
    std::unique_ptr<DeviceBuffer>* buffer);

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_MEMORY_H_
