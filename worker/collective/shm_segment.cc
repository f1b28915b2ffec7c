// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/shm_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {
namespace {

absl::Status SystemError(const std::string& what, int error) {
  const std::string message = absl::StrCat(what, ": ", std::strerror(error));
  return error == ENOSPC || error == ENOMEM
             ? absl::ResourceExhaustedError(message)
             : absl::UnavailableError(message);
}

struct flock LockOf(int32_t rank, short type) {  // NOLINT: the kernel's type
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return lock;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShmSegment>> ShmSegment::Create(int64_t bytes,
                                                               int32_t rank) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
    return SystemError("no random numbers", errno);
  }
  const std::string name = absl::StrCat("/quire-", absl::Hex(random));
  const int fd =
      shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return SystemError("cannot create shared memory", errno);
  auto segment = absl::WrapUnique(new ShmSegment(name, fd, bytes));
  segment->is_linked_ = true;
  // Not ftruncate: memory that is not there must show now, not as a signal.
  if (const int error = posix_fallocate(fd, 0, bytes); error != 0) {
    return SystemError(absl::StrCat("cannot have ", bytes,
                                    " bytes of shared memory (is /dev/shm "
                                    "large enough?)"),
                       error);
  }
  QUIRE_RETURN_IF_ERROR(segment->LockAndMap(rank));
  return segment;
}

absl::StatusOr<std::unique_ptr<ShmSegment>> ShmSegment::Open(
    const std::string& name, int64_t bytes, int32_t rank) {
  const int fd = shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) {
    return SystemError(absl::StrCat("cannot open shared memory ", name), errno);
  }
  auto segment = absl::WrapUnique(new ShmSegment(name, fd, bytes));
  QUIRE_RETURN_IF_ERROR(segment->LockAndMap(rank));
  return segment;
}

ShmSegment::~ShmSegment() {
  Unlink();
  if (data_ != nullptr) munmap(data_, bytes_);
  close(fd_);
}

absl::Status ShmSegment::LockAndMap(int32_t rank) {
  struct flock lock = LockOf(rank, F_WRLCK);
  if (fcntl(fd_, F_OFD_SETLK, &lock) != 0) {
    return SystemError(absl::StrCat("rank ", rank, " is there already"), errno);
  }
  void* data =
      mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (data == MAP_FAILED) {
    return SystemError("cannot map shared memory", errno);
  }
  data_ = static_cast<char*>(data);
  return absl::OkStatus();
}

bool ShmSegment::IsAlive(int32_t rank) const {
  struct flock lock = LockOf(rank, F_WRLCK);
  if (fcntl(fd_, F_OFD_GETLK, &lock) != 0) return false;
  return lock.l_type != F_UNLCK;
}

void ShmSegment::Unlink() {
  if (is_linked_) shm_unlink(name_.c_str());
  is_linked_ = false;
}

}  // namespace quire
