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

constexpr size_t kAlignment = 64;
constexpr size_t kHugePageBytes = 2 << 20;

}  // namespace

absl::StatusOr<HostMemory> HostMemory::Allocate(int64_t bytes) {
  const bool large = bytes >= static_cast<int64_t>(2 * kHugePageBytes);
  const size_t alignment = large ? kHugePageBytes : kAlignment;
  const size_t rounded =
      (static_cast<size_t>(bytes) + alignment) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", bytes,
                     " bytes of host memory: ", std::strerror(errno)));
  }
  // Fewer TLB misses while weights are streamed; a refusal does no harm.
  if (large) madvise(data, rounded, MADV_HUGEPAGE);
  return HostMemory(data, bytes);
}

HostMemory::~HostMemory() { std::free(data_); }

}  // namespace quire
