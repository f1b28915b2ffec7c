// SPDX-License-Identifier: Apache-2.0
//
// The memory that the ranks of one machine share, and who of them lives.
#ifndef WORKER_COLLECTIVE_SHM_SEGMENT_H_
#define WORKER_COLLECTIVE_SHM_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace quire {

// A mapped object of POSIX shared memory. Each rank locks one byte of it for as
// long as it lives; locks belong to the open file, so that even a process that
// nobody has waited for counts as dead. Thread-compatible.
class ShmSegment {
 public:
  // A new one under a name of its own, filled with zeros.
  static absl::StatusOr<std::unique_ptr<ShmSegment>> Create(int64_t bytes,
                                                            int32_t rank);
  // Another rank's.
  static absl::StatusOr<std::unique_ptr<ShmSegment>> Open(
      const std::string& name, int64_t bytes, int32_t rank);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;

  const std::string& name() const { return name_; }
  char* data() const { return data_; }

  // Whether the rank has the segment open.
  bool IsAlive(int32_t rank) const;

  // Removes the name: the memory goes when the last rank closes it.
  void Unlink();

 private:
  ShmSegment(const std::string& name, int fd, int64_t bytes)
      : name_(name), fd_(fd), bytes_(bytes) {}
  absl::Status LockAndMap(int32_t rank);

  const std::string name_;
  const int fd_;
  const int64_t bytes_;
  char* data_ = nullptr;
  bool is_linked_ = false;
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_SHM_SEGMENT_H_
