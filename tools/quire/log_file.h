// SPDX-License-Identifier: Apache-2.0
//
// A child's log, which keeps its newest lines: a worker that is started again
// each minute, or that talks for months, must not fill the disk.
#ifndef TOOLS_QUIRE_LOG_FILE_H_
#define TOOLS_QUIRE_LOG_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

// Thread-compatible.
class LogFile {
 public:
  // Appends to what `path` has. Internal, with the path, if it cannot.
  static absl::StatusOr<std::unique_ptr<LogFile>> Open(const std::string& path,
                                                       int64_t max_bytes);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  // Once the file has reached its limit, the next line begins another, or what
  // comes next if `bytes` does not end the last one. The file before is kept as
  // "PATH.1", in place of what that was. What cannot be written is lost, and
  // logged.
  void Append(absl::string_view bytes);

 private:
  LogFile(const std::string& path, int64_t max_bytes)
      : path_(path), max_bytes_(max_bytes) {}
  absl::Status OpenPath();
  void Write(absl::string_view bytes);

  const std::string path_;
  const int64_t max_bytes_;
  int fd_ = -1;
  int64_t size_ = 0;         // bytes
  bool is_in_line_ = false;  // some of which has been written
};

}  // namespace quire

#endif  // TOOLS_QUIRE_LOG_FILE_H_
