// SPDX-License-Identifier: Apache-2.0
//
// Virtual memory of the host: addresses reserved without access, and pages
// given to the process and taken from it in place.
#ifndef KERNELS_CPU_CPU_VIRTUAL_MEMORY_H_
#define KERNELS_CPU_CPU_VIRTUAL_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/virtual_memory.h"

namespace quire {

// Map() has the kernel fill the pages in, so that the first write to them does
// not fault on the step path. Pages of 2 MiB ask for huge pages.
class CpuVirtualMemory final : public VirtualMemory {
 public:
  // InvalidArgument if page_bytes is not a multiple of the system's page, or
  // reserved_bytes not of page_bytes; ResourceExhausted if the system refuses.
  static absl::StatusOr<std::unique_ptr<VirtualMemory>> Reserve(
      const VirtualMemoryOptions& options);
  ~CpuVirtualMemory() override;

  absl::Status Map(int64_t first, int64_t n) override;
  absl::Status Unmap(int64_t first, int64_t n) override;
  int64_t num_mapped() const override { return num_mapped_; }

 private:
  CpuVirtualMemory(void* reservation, int64_t reservation_bytes, void* data,
                   const VirtualMemoryOptions& options);

  char* At(int64_t page) const {
    return static_cast<char*>(data()) + page * options().page_bytes;
  }
  // Checks that pages [first, first + n) exist and are all mapped or all not.
  void CheckRange(int64_t first, int64_t n, bool mapped) const;

  void* const reservation_;  // from which data() is an aligned part
  const int64_t reservation_bytes_;
  std::vector<bool> is_mapped_;  // by page
  int64_t num_mapped_ = 0;
};

}  // namespace quire

#endif  // KERNELS_CPU_CPU_VIRTUAL_MEMORY_H_
