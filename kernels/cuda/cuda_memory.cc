// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_status.h"

namespace quire {
namespace {

class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(void* data, int64_t bytes) : DeviceBuffer(data, bytes) {}
  ~CudaBuffer() override { cudaFree(data()); }
};

class PinnedBuffer final : public DeviceBuffer {
 public:
  PinnedBuffer(void* data, int64_t bytes) : DeviceBuffer(data, bytes) {}
  ~PinnedBuffer() override { cudaFreeHost(data()); }
};

absl::Status Explain(cudaError_t error, const char* what, int64_t bytes) {
  cudaGetLastError();  // not the next operation's
  const absl::Status status = CudaStatus(error, what);
  return absl::Status(
      status.code(), absl::StrCat(status.message(), ", for ", bytes, " bytes"));
}

}  // namespace

absl::StatusOr<MemoryInfo> GetCudaMemory() {
  size_t free_bytes = 0, total_bytes = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes),
                             "memory");
  return MemoryInfo{static_cast<int64_t>(total_bytes),
                    static_cast<int64_t>(free_bytes)};
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateCuda(int64_t bytes) {
  void* data = nullptr;
  // An empty buffer has an address of its own too.
  const cudaError_t error = cudaMalloc(&data, std::max<int64_t>(bytes, 1));
  if (error != cudaSuccess) return Explain(error, "device memory", bytes);
  return std::make_unique<CudaBuffer>(data, bytes);
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocatePinned(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t error =
      cudaHostAlloc(&data, std::max<int64_t>(bytes, 1), cudaHostAllocPortable);
  if (error != cudaSuccess) return Explain(error, "pinned host memory", bytes);
  return std::make_unique<PinnedBuffer>(data, bytes);
}

absl::Status GrowBuffer(
    int64_t bytes,
    absl::StatusOr<std::unique_ptr<DeviceBuffer>> (*allocate)(int64_t),
    std::unique_ptr<DeviceBuffer>* buffer) {
  if (*buffer != nullptr && (*buffer)->bytes() >= bytes) {
    return absl::OkStatus();
  }
  buffer->reset();
  QUIRE_ASSIGN_OR_RETURN(*buffer, allocate(bytes + bytes / 4));
  return absl::OkStatus();
}

}  // namespace quire
