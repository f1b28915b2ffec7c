// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/host_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace quire {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePageBytes = 2 << 20;

bool IsLarge(int64_t bytes) { return bytes >= 2 * kHugePageBytes; }

int64_t RoundUp(int64_t bytes, int64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// A mapping that starts at a huge page, or null.
void* MapLarge(int64_t bytes) {
  const int64_t rounded = RoundUp(bytes, kHugePageBytes);
  const int64_t mapped = rounded + kHugePageBytes;
  void* const data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  char* const first = static_cast<char*>(data);
  char* const aligned =
      first + (RoundUp(reinterpret_cast<intptr_t>(first), kHugePageBytes) -
               reinterpret_cast<intptr_t>(first));
  char* const end = first + mapped;
  if (aligned > first) munmap(first, aligned - first);
  if (aligned + rounded < end)
    munmap(aligned + rounded, end - aligned - rounded);
  // Fewer TLB misses while weights are streamed; a refusal does no harm.
  madvise(aligned, rounded, MADV_HUGEPAGE);
  return aligned;
}

}  // namespace

absl::StatusOr<HostMemory> HostMemory::Allocate(int64_t bytes) {
  void* const data =
      IsLarge(bytes)
          ? MapLarge(bytes)
          : std::aligned_alloc(kAlignment, RoundUp(bytes + 1, kAlignment));
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", bytes,
                     " bytes of host memory: ", std::strerror(errno)));
  }
  return HostMemory(data, bytes);
}

HostMemory::~HostMemory() {
  if (IsLarge(bytes_)) {
    munmap(data_, RoundUp(bytes_, kHugePageBytes));
  } else {
    std::free(data_);
  }
}

}  // namespace quire
