// SPDX-License-Identifier: Apache-2.0
//
// A run of device addresses of which only parts have memory behind them, so
// that kernels see one contiguous array that grows in place (vAttention, arXiv
// 2405.04437, section 5). What the CUDA driver does by cuMemAddressReserve,
// cuMemMap with cuMemSetAccess, and cuMemUnmap; on the CPU, mprotect and
// madvise.
#ifndef KERNELS_VIRTUAL_MEMORY_H_
#define KERNELS_VIRTUAL_MEMORY_H_

#include <cstdint>

#include "absl/status/status.h"

namespace quire {

struct VirtualMemoryOptions {
  int64_t reserved_bytes = 0;  // addresses: a multiple of page_bytes
  int64_t page_bytes = 0;      // the unit in which memory comes and goes
  int64_t num_pages = 0;       // the most that may be mapped at once
};

// Owns the addresses and the pages. Pages are numbered from the first address.
// Thread-compatible, but for this: one thread may map and unmap while others
// read and write pages that neither call names.
class VirtualMemory {
 public:
  virtual ~VirtualMemory() = default;

  void* data() const { return data_; }
  const VirtualMemoryOptions& options() const { return options_; }

  // Puts memory of undefined contents behind pages [first, first + n), ready to
  // be written without further cost. ResourceExhausted if that were more than
  // num_pages in all, or the system has no more. REQUIRES: none is mapped.
  virtual absl::Status Map(int64_t first, int64_t n) = 0;

  // Gives the memory behind the pages back; touching them is then a fault, or,
  // where memory stays behind addresses until others want it, means nothing.
  // REQUIRES: all are mapped, and nothing enqueued uses them.
  virtual absl::Status Unmap(int64_t first, int64_t n) = 0;

  virtual int64_t num_mapped() const = 0;  // pages

 protected:
  VirtualMemory(void* data, const VirtualMemoryOptions& options)
      : data_(data), options_(options) {}

 private:
  void* const data_;
  const VirtualMemoryOptions options_;
};

}  // namespace quire

#endif  // KERNELS_VIRTUAL_MEMORY_H_
