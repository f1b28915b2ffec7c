// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_virtual_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int64_t kHugePageBytes = 2 << 20;

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

absl::Status SystemError(const char* call, int64_t bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat(call, " of ", bytes, " bytes: ", std::strerror(errno)));
}

// Has the kernel put memory behind the bytes, as a first write would.
void Populate(char* data, int64_t bytes, int64_t system_page) {
  if (madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return;
  for (int64_t at = 0; at < bytes; at += system_page) {
    *static_cast<volatile char*>(data + at) = 0;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<VirtualMemory>> CpuVirtualMemory::Reserve(
    const VirtualMemoryOptions& options) {
  const int64_t system_page = sysconf(_SC_PAGESIZE);
  if (options.page_bytes < 1 || options.page_bytes % system_page != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("pages of ", options.page_bytes,
                     " bytes: want a multiple of ", system_page));
  }
  if (options.reserved_bytes < 1 || options.num_pages < 1 ||
      options.reserved_bytes % options.page_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.num_pages, " pages of ", options.page_bytes, " bytes in ",
        options.reserved_bytes, " bytes of addresses"));
  }
  // Room to start at a huge page.
  const int64_t bytes = options.reserved_bytes + kHugePageBytes;
  void* const reservation =
      mmap(nullptr, bytes, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reservation == MAP_FAILED) return SystemError("reservation", bytes);
  const auto address = reinterpret_cast<uintptr_t>(reservation);
  const uintptr_t aligned =
      (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  void* const data = static_cast<char*>(reservation) + (aligned - address);
  madvise(data, options.reserved_bytes,
          options.page_bytes % kHugePageBytes == 0 ? MADV_HUGEPAGE
                                                   : MADV_NOHUGEPAGE);
  return absl::WrapUnique<VirtualMemory>(
      new CpuVirtualMemory(reservation, bytes, data, options));
}

CpuVirtualMemory::CpuVirtualMemory(void* reservation, int64_t reservation_bytes,
                                   void* data,
                                   const VirtualMemoryOptions& options)
    : VirtualMemory(data, options),
      reservation_(reservation),
      reservation_bytes_(reservation_bytes),
      is_mapped_(options.reserved_bytes / options.page_bytes) {}

CpuVirtualMemory::~CpuVirtualMemory() {
  munmap(reservation_, reservation_bytes_);
}

void CpuVirtualMemory::CheckRange(int64_t first, int64_t n, bool mapped) const {
  CHECK_GE(first, 0);
  CHECK_GE(n, 0);
  CHECK_LE(first + n, static_cast<int64_t>(is_mapped_.size()));
  for (int64_t page = first; page < first + n; ++page) {
    CHECK_EQ(is_mapped_[page], mapped) << "page " << page;
  }
}

absl::Status CpuVirtualMemory::Map(int64_t first, int64_t n) {
  CheckRange(first, n, /*mapped=*/false);
  if (num_mapped_ + n > options().num_pages) {
    return absl::ResourceExhaustedError(
        absl::StrCat("want ", n, " pages, ", num_mapped_, " of ",
                     options().num_pages, " are mapped"));
  }
  if (n == 0) return absl::OkStatus();
  const int64_t bytes = n * options().page_bytes;
  if (mprotect(At(first), bytes, PROT_READ | PROT_WRITE) != 0) {
    return SystemError("mapping", bytes);
  }
  Populate(At(first), bytes, sysconf(_SC_PAGESIZE));
  for (int64_t page = first; page < first + n; ++page) is_mapped_[page] = true;
  num_mapped_ += n;
  return absl::OkStatus();
}

absl::Status CpuVirtualMemory::Unmap(int64_t first, int64_t n) {
  CheckRange(first, n, /*mapped=*/true);
  if (n == 0) return absl::OkStatus();
  const int64_t bytes = n * options().page_bytes;
  if (madvise(At(first), bytes, MADV_DONTNEED) != 0 ||
      mprotect(At(first), bytes, PROT_NONE) != 0) {
    return SystemError("unmapping", bytes);
  }
  for (int64_t page = first; page < first + n; ++page) is_mapped_[page] = false;
  num_mapped_ -= n;
  return absl::OkStatus();
}

}  // namespace quire
