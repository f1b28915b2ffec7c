// SPDX-License-Identifier: Apache-2.0
//
// Large host memory: aligned, with huge pages where the kernel grants them.
#ifndef KERNELS_CPU_HOST_MEMORY_H_
#define KERNELS_CPU_HOST_MEMORY_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace quire {

// Owns a mapping. At least 64-byte aligned; pages are taken at first use.
class HostMemory {
 public:
  // ResourceExhausted when the system refuses. REQUIRES: bytes >= 0.
  static absl::StatusOr<HostMemory> Allocate(int64_t bytes);

  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  HostMemory& operator=(HostMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HostMemory();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  HostMemory(void* data, int64_t bytes) : data_(data), bytes_(bytes) {}

  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace quire

#endif  // KERNELS_CPU_HOST_MEMORY_H_
