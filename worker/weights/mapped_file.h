// SPDX-License-Identifier: Apache-2.0
//
// A whole file as read-only memory.
#ifndef WORKER_WEIGHTS_MAPPED_FILE_H_
#define WORKER_WEIGHTS_MAPPED_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace quire {

// Maps a file for its own lifetime. Whoever else shortens the file meanwhile
// would have us killed by SIGBUS at the next touch of the lost pages; a guard
// gives zeros instead and remembers it, so that the reader of the bytes can
// refuse them with damaged().
//
// Thread-safe once opened. The guard is a process-wide SIGBUS handler; faults
// outside of mapped files go to whoever handled the signal before.
class MappedFile {
 public:
  // NotFound names a missing file. InvalidArgument: a symbolic link (a model
  // folder holds its own files), or not a regular file.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(
      const std::string& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

  // Whether a touched part of the file was gone.
  bool damaged() const;

  // Advice about [offset, offset + num_bytes): it is read soon, or it is not
  // needed again and need not stay in this process's memory.
  void WillNeed(int64_t offset, int64_t num_bytes) const;
  void Release(int64_t offset, int64_t num_bytes) const;

 private:
  MappedFile(std::string path, char* data, int64_t bytes, int guard_idx);

  void Advise(int64_t offset, int64_t num_bytes, int advice) const;

  std::string path_;
  char* data_;  // page-aligned; null for an empty file
  int64_t bytes_;
  int guard_idx_;  // of the guard's table; -1 for an empty file
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_MAPPED_FILE_H_
