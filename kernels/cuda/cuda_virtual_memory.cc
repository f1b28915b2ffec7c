// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_virtual_memory.h"

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_status.h"

namespace quire {
namespace {

// Whose forms of the functions are asked for.
constexpr unsigned kDriverVersion = 12000;

CUmemAllocationProp MemoryOf(int device) {
  CUmemAllocationProp memory = {};
  memory.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  memory.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  memory.location.id = device;
  return memory;
}

absl::StatusOr<const CudaVmm*> LoadOnce() {
  static CudaVmm functions;
  cudaDriverEntryPointQueryResult found;
  void* function = nullptr;
#define QUIRE_CUDA_VMM_FIND(name)                                              \
  if (cudaGetDriverEntryPointByVersion("cu" #name, &function, kDriverVersion,  \
                                       cudaEnableDefault,                      \
                                       &found) != cudaSuccess ||               \
      found != cudaDriverEntryPointSuccess || function == nullptr) {           \
    return absl::UnavailableError("the CUDA driver has no function cu" #name); \
  }                                                                            \
  functions.name = reinterpret_cast<decltype(functions.name)>(function);
  QUIRE_CUDA_VMM_FUNCTIONS(QUIRE_CUDA_VMM_FIND)
#undef QUIRE_CUDA_VMM_FIND
  return &functions;
}

}  // namespace

absl::StatusOr<const CudaVmm*> CudaVmm::Load() {
  static const auto* const loaded =
      new absl::StatusOr<const CudaVmm*>(LoadOnce());
  return *loaded;
}

absl::StatusOr<std::unique_ptr<VirtualMemory>> CudaVirtualMemory::Reserve(
    const VirtualMemoryOptions& options, int device) {
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(device), "choosing the GPU");
  QUIRE_ASSIGN_OR_RETURN(const CudaVmm* const driver, CudaVmm::Load());
  const CUmemAllocationProp memory = MemoryOf(device);
  size_t unit = 0;
  if (driver->MemGetAllocationGranularity(
          &unit, &memory, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS) {
    return absl::UnavailableError("the GPU has no virtual memory to manage");
  }
  if (options.page_bytes < 1 || options.page_bytes % unit != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("pages of ", options.page_bytes,
                     " bytes: the GPU wants a multiple of ", unit));
  }
  if (options.reserved_bytes < 1 || options.num_pages < 1 ||
      options.reserved_bytes % options.page_bytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.num_pages, " pages of ", options.page_bytes, " bytes in ",
        options.reserved_bytes, " bytes of addresses"));
  }
  CUdeviceptr data = 0;
  const CUresult result = driver->MemAddressReserve(
      &data, options.reserved_bytes, options.page_bytes, 0, 0);
  if (result != CUDA_SUCCESS) {
    return absl::ResourceExhaustedError(absl::StrCat(
        options.reserved_bytes, " bytes of GPU addresses are not to be had"));
  }
  auto reserved = absl::WrapUnique(new CudaVirtualMemory(
      reinterpret_cast<void*>(data), options, device, driver));
  QUIRE_RETURN_IF_ERROR(reserved->CreatePages());
  return reserved;
}

CudaVirtualMemory::CudaVirtualMemory(void* data,
                                     const VirtualMemoryOptions& options,
                                     int device, const CudaVmm* driver)
    : VirtualMemory(data, options),
      device_(device),
      driver_(driver),
      pages_(options.reserved_bytes / options.page_bytes) {}

CudaVirtualMemory::~CudaVirtualMemory() {
  Begin().IgnoreError();
  // Unmapping does not wait, and what is enqueued would fault later, in
  // somebody else's call.
  cudaDeviceSynchronize();
  for (size_t page = 0; page < pages_.size(); ++page) {
    if (pages_[page].state == State::kEmpty) continue;
    driver_->MemUnmap(At(page), options().page_bytes);
    driver_->MemRelease(pages_[page].handle);
  }
  for (Handle handle : unused_) driver_->MemRelease(handle);
  driver_->MemAddressFree(At(0), options().reserved_bytes);
}

absl::Status CudaVirtualMemory::StatusOf(CUresult result,
                                         const char* call) const {
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  const char* name = nullptr;
  driver_->GetErrorName(result, &name);
  const std::string message =
      absl::StrCat(call, ": ", name == nullptr ? "error" : name);
  return result == CUDA_ERROR_OUT_OF_MEMORY
             ? absl::ResourceExhaustedError(message)
             : absl::InternalError(message);
}

absl::Status CudaVirtualMemory::Begin() const {
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(device_), "choosing the GPU");
  return absl::OkStatus();
}

absl::Status CudaVirtualMemory::CreatePages() {
  const CUmemAllocationProp memory = MemoryOf(device_);
  unused_.reserve(options().num_pages);
  for (int64_t i = 0; i < options().num_pages; ++i) {
    Handle handle = 0;
    const absl::Status status =
        StatusOf(driver_->MemCreate(&handle, options().page_bytes, &memory, 0),
                 "making pages");
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat(status.message(), " after ", i, " of ",
                                       options().num_pages, " pages of ",
                                       options().page_bytes, " bytes"));
    }
    unused_.push_back(handle);
  }
  return absl::OkStatus();
}

void CudaVirtualMemory::CheckRange(int64_t first, int64_t n,
                                   bool mapped) const {
  CHECK_GE(first, 0);
  CHECK_GE(n, 0);
  CHECK_LE(first + n, static_cast<int64_t>(pages_.size()));
  for (int64_t page = first; page < first + n; ++page) {
    CHECK_EQ(pages_[page].state == State::kMapped, mapped) << "page " << page;
  }
}

absl::StatusOr<CudaVirtualMemory::Handle> CudaVirtualMemory::TakeHandle() {
  if (!unused_.empty()) {
    const Handle handle = unused_.back();
    unused_.pop_back();
    return handle;
  }
  while (true) {
    // Fewer are in use than there are, so the others are idle.
    CHECK(!idle_.empty());
    const IdlePage oldest = idle_.front();
    idle_.pop_front();
    Page& page = pages_[oldest.page];
    if (page.state != State::kIdle || page.idle_since != oldest.since) continue;
    QUIRE_RETURN_IF_ERROR(StatusOf(
        driver_->MemUnmap(At(oldest.page), options().page_bytes), "unmapping"));
    ++stats_.num_driver_unmaps;
    page.state = State::kEmpty;
    return std::exchange(page.handle, 0);
  }
}

absl::Status CudaVirtualMemory::Allow(int64_t first, int64_t n) {
  if (n == 0) return absl::OkStatus();
  CUmemAccessDesc access = {};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = device_;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return StatusOf(
      driver_->MemSetAccess(At(first), n * options().page_bytes, &access, 1),
      "giving access");
}

absl::Status CudaVirtualMemory::Map(int64_t first, int64_t n) {
  CheckRange(first, n, /*mapped=*/false);
  if (num_mapped_ + n > options().num_pages) {
    return absl::ResourceExhaustedError(
        absl::StrCat("want ", n, " pages, ", num_mapped_, " of ",
                     options().num_pages, " are mapped"));
  }
  QUIRE_RETURN_IF_ERROR(Begin());
  // Those that have memory are taken first, so that none of them is emptied for
  // another of the same call.
  for (int64_t page = first; page < first + n; ++page) {
    if (pages_[page].state != State::kIdle) continue;
    pages_[page].state = State::kMapped;
    ++stats_.num_reused;
  }
  int64_t begin = first;  // of a run of pages that are mapped together
  for (int64_t page = first; page < first + n; ++page) {
    if (pages_[page].state == State::kMapped) {
      QUIRE_RETURN_IF_ERROR(Allow(begin, page - begin));
      begin = page + 1;
      continue;
    }
    QUIRE_ASSIGN_OR_RETURN(const Handle handle, TakeHandle());
    QUIRE_RETURN_IF_ERROR(
        StatusOf(driver_->MemMap(At(page), options().page_bytes, 0, handle, 0),
                 "mapping"));
    ++stats_.num_driver_maps;
    pages_[page].handle = handle;
    pages_[page].state = State::kMapped;
  }
  QUIRE_RETURN_IF_ERROR(Allow(begin, first + n - begin));
  num_mapped_ += n;
  return absl::OkStatus();
}

absl::Status CudaVirtualMemory::Unmap(int64_t first, int64_t n) {
  CheckRange(first, n, /*mapped=*/true);
  // The last page of a row is the likeliest not to be wanted again.
  for (int64_t page = first + n - 1; page >= first; --page) {
    pages_[page].state = State::kIdle;
    pages_[page].idle_since = ++num_given_back_;
    idle_.push_back({page, pages_[page].idle_since});
  }
  num_mapped_ -= n;
  // Entries out of date are dropped before they outnumber the pages.
  if (idle_.size() > 2 * static_cast<size_t>(options().num_pages)) {
    std::deque<IdlePage> kept;
    for (const IdlePage& idle : idle_) {
      const Page& page = pages_[idle.page];
      if (page.state == State::kIdle && page.idle_since == idle.since) {
        kept.push_back(idle);
      }
    }
    idle_.swap(kept);
  }
  return absl::OkStatus();
}

}  // namespace quire
