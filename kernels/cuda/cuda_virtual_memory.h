// SPDX-License-Identifier: Apache-2.0
//
// Virtual memory of a GPU, by the CUDA driver's own management of it: addresses
// reserved once, physical pages made once, and put behind addresses and taken
// from them in place.
#ifndef KERNELS_CUDA_CUDA_VIRTUAL_MEMORY_H_
#define KERNELS_CUDA_CUDA_VIRTUAL_MEMORY_H_

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/virtual_memory.h"

namespace quire {

// The driver's functions, by their names less "cu": found when they are first
// needed, as nothing links to the driver.
struct CudaVmm {
#define QUIRE_CUDA_VMM_FUNCTIONS(F) \
  F(MemAddressReserve)              \
  F(MemAddressFree)                 \
  F(MemCreate)                      \
  F(MemRelease)                     \
  F(MemMap)                         \
  F(MemUnmap)                       \
  F(MemSetAccess)                   \
  F(MemGetAllocationGranularity)    \
  F(GetErrorName)

#define QUIRE_CUDA_VMM_MEMBER(name) decltype(&cu##name) name;
  QUIRE_CUDA_VMM_FUNCTIONS(QUIRE_CUDA_VMM_MEMBER)
#undef QUIRE_CUDA_VMM_MEMBER

  // Unavailable if the driver has not all of them.
  static absl::StatusOr<const CudaVmm*> Load();
};

// What has been asked of the driver so far; only ever grows.
struct CudaVirtualMemoryStats {
  int64_t num_driver_maps = 0;
  int64_t num_driver_unmaps = 0;
  int64_t num_reused = 0;  // pages mapped again with the memory they had
};

// On an H200 a page costs 17 us to make, 53 us to map and let the GPU reach,
// and 24 us to unmap. So pages are made by Reserve(), and one that is given
// back stays behind its address until another address wants it, the one that
// was given back first: a row that is used again finds its memory there. Until
// then touching it is no fault, and what is read there means nothing.
class CudaVirtualMemory final : public VirtualMemory {
 public:
  // On GPU `device`, all of num_pages at once. InvalidArgument if page_bytes is
  // not a multiple of the device's page (2 MiB), or reserved_bytes not of
  // page_bytes; ResourceExhausted if it has not so much memory or addresses.
  static absl::StatusOr<std::unique_ptr<VirtualMemory>> Reserve(
      const VirtualMemoryOptions& options, int device);
  // Waits for all that is enqueued on the device.
  ~CudaVirtualMemory() override;

  absl::Status Map(int64_t first, int64_t n) override;
  absl::Status Unmap(int64_t first, int64_t n) override;
  int64_t num_mapped() const override { return num_mapped_; }

  const CudaVirtualMemoryStats& stats() const { return stats_; }

 private:
  using Handle = CUmemGenericAllocationHandle;

  // Of a page of addresses.
  enum class State : uint8_t {
    kEmpty,   // no memory behind it
    kMapped,  // in use
    kIdle,    // given back, its memory still behind it
  };
  struct Page {
    Handle handle = 0;  // of the memory behind it
    State state = State::kEmpty;
    uint32_t idle_since = 0;  // tells its entries in idle_ apart
  };
  struct IdlePage {
    int64_t page;
    uint32_t since;
  };

  CudaVirtualMemory(void* data, const VirtualMemoryOptions& options, int device,
                    const CudaVmm* driver);

  absl::Status CreatePages();
  // Makes the device this thread's.
  absl::Status Begin() const;
  // Memory for a page: unused, or the longest idle page's.
  absl::StatusOr<Handle> TakeHandle();
  // Lets the GPU read and write pages [first, first + n).
  absl::Status Allow(int64_t first, int64_t n);
  CUdeviceptr At(int64_t page) const {
    return reinterpret_cast<CUdeviceptr>(data()) + page * options().page_bytes;
  }
  // Checks that pages [first, first + n) exist and are all in use or all not.
  void CheckRange(int64_t first, int64_t n, bool mapped) const;
  absl::Status StatusOf(CUresult result, const char* call) const;

  const int device_;
  const CudaVmm* const driver_;
  std::vector<Page> pages_;     // of the addresses
  std::vector<Handle> unused_;  // memory that is behind no address
  std::deque<IdlePage> idle_;   // in the order in which they were given back;
                                // those used again since are out of date
  uint32_t num_given_back_ = 0;
  int64_t num_mapped_ = 0;
  CudaVirtualMemoryStats stats_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_VIRTUAL_MEMORY_H_
