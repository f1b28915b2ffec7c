// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace quire {
namespace {

// What the handler may read: a fixed table of atomics, as it can take no lock
// and allocate nothing. More shards than any published checkpoint has.
constexpr int kMaxMappedFiles = 4096;

struct GuardedRange {
  std::atomic<bool> taken{false};
  std::atomic<uintptr_t> begin{0};  // page-aligned
  std::atomic<uintptr_t> end{0};    // page-aligned; 0: not in use
  std::atomic<bool> damaged{false};
};

std::array<GuardedRange, kMaxMappedFiles> guarded_ranges;
struct sigaction previous_action;
uintptr_t page_bytes;

// Puts a page of zeros in place of the lost one, so that the read goes on.
void HandleBusError(int signal_number, siginfo_t* info, void* context) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (GuardedRange& range : guarded_ranges) {
    const uintptr_t end = range.end.load(std::memory_order_acquire);
    if (address >= end || address < range.begin.load()) continue;
    const int saved_errno = errno;
    void* page = reinterpret_cast<void*>(address & ~(page_bytes - 1));
    const void* mapped =
        mmap(page, page_bytes, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, /*fd=*/-1, /*offset=*/0);
    errno = saved_errno;
    if (mapped == MAP_FAILED) break;
    range.damaged.store(true);
    return;
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal_number, info, context);
    return;
  }
  // Default, ignored or a plain handler: let it happen again under that.
  sigaction(SIGBUS, &previous_action, nullptr);
  if (info->si_code <= 0) raise(signal_number);  // sent, not a fault
}

void InstallGuardOnce() {
  static const bool installed = [] {
    page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action = {};
    action.sa_sigaction = HandleBusError;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous_action) == 0;
  }();
  static_cast<void>(installed);
}

uintptr_t RoundUpToPage(uintptr_t value) {
  return (value + page_bytes - 1) & ~(page_bytes - 1);
}

// Index of the range's entry, or -1 if the table is full.
int Guard(const char* data, int64_t bytes) {
  for (int i = 0; i < kMaxMappedFiles; ++i) {
    GuardedRange& range = guarded_ranges[i];
    if (range.taken.exchange(true)) continue;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(data);
    range.damaged.store(false);
    range.begin.store(begin);
    range.end.store(RoundUpToPage(begin + bytes), std::memory_order_release);
    return i;
  }
  return -1;
}

void Unguard(int guard_idx) {
  GuardedRange& range = guarded_ranges[guard_idx];
  range.end.store(0);
  range.begin.store(0);
  range.taken.store(false);
}

absl::Status OpenError(const std::string& path, int error) {
  if (error == ENOENT) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  if (error == ELOOP) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": is a symbolic link; a model folder must hold its own files "
        "(cp -rL copies a folder with what its links point to)"));
  }
  return absl::UnavailableError(
      absl::StrCat(path, ": cannot open: ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(
    const std::string& path) {
  InstallGuardOnce();
  // O_NONBLOCK: opening a FIFO must not wait for its writer.
  const int fd =
      open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return OpenError(path, errno);
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a regular file"));
  }
  if (info.st_size == 0) {
    close(fd);
    return std::unique_ptr<MappedFile>(new MappedFile(path, nullptr, 0, -1));
  }
  void* data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ,
                    MAP_PRIVATE, fd, /*offset=*/0);
  const int error = errno;
  close(fd);
  if (data == MAP_FAILED) {
    return absl::UnavailableError(absl::StrCat(
        path, ": cannot map ", info.st_size, " bytes: ", std::strerror(error)));
  }
  const int guard_idx = Guard(static_cast<char*>(data), info.st_size);
  if (guard_idx < 0) {
    munmap(data, static_cast<size_t>(info.st_size));
    return absl::ResourceExhaustedError(absl::StrCat(
        path, ": more than ", kMaxMappedFiles, " files are mapped at once"));
  }
  return std::unique_ptr<MappedFile>(
      new MappedFile(path, static_cast<char*>(data), info.st_size, guard_idx));
}

MappedFile::MappedFile(std::string path, char* data, int64_t bytes,
                       int guard_idx)
    : path_(std::move(path)),
      data_(data),
      bytes_(bytes),
      guard_idx_(guard_idx) {}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  Unguard(guard_idx_);
  munmap(data_, static_cast<size_t>(bytes_));
}

bool MappedFile::damaged() const {
  return data_ != nullptr && guarded_ranges[guard_idx_].damaged.load();
}

void MappedFile::WillNeed(int64_t offset, int64_t num_bytes) const {
  Advise(offset, num_bytes, MADV_WILLNEED);
}

void MappedFile::Release(int64_t offset, int64_t num_bytes) const {
  // Zero pages that stand in for lost ones must stay, and dropping a clean
  // page of a file loses nothing: its neighbours read it again.
  if (!damaged()) Advise(offset, num_bytes, MADV_DONTNEED);
}

void MappedFile::Advise(int64_t offset, int64_t num_bytes, int advice) const {
  if (num_bytes <= 0) return;
  const int64_t begin = offset & ~static_cast<int64_t>(page_bytes - 1);
  // A failure costs speed or memory, never correctness.
  madvise(data_ + begin, static_cast<size_t>(offset + num_bytes - begin),
          advice);
}

}  // namespace quire
