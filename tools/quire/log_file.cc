// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/log_file.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cerrno>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {

absl::StatusOr<std::unique_ptr<LogFile>> LogFile::Open(const std::string& path,
                                                       int64_t max_bytes) {
  auto file = absl::WrapUnique(new LogFile(path, max_bytes));
  QUIRE_RETURN_IF_ERROR(file->OpenPath());
  return file;
}

LogFile::~LogFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status LogFile::OpenPath() {
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd_ < 0) {
    return absl::InternalError(absl::StrCat(path_, ": ", strerror(errno)));
  }
  size_ = lseek(fd_, 0, SEEK_END);
  return absl::OkStatus();
}

void LogFile::Append(absl::string_view bytes) {
  if (size_ >= max_bytes_) {
    // Of a line that has begun: 0 if there is none, or no end of it.
    const size_t line_end = is_in_line_ ? bytes.find('\n') + 1 : 0;
    Write(bytes.substr(0, line_end));
    bytes.remove_prefix(line_end);
    if (bytes.empty()) return;
    if (fd_ >= 0) close(fd_);
    PLOG_IF(WARNING, rename(path_.c_str(), (path_ + ".1").c_str()) != 0)
        << path_;
    const absl::Status opened = OpenPath();
    LOG_IF(WARNING, !opened.ok()) << opened.message();
  }
  Write(bytes);
}

void LogFile::Write(absl::string_view bytes) {
  if (fd_ < 0 || bytes.empty()) return;
  const ssize_t num_written = write(fd_, bytes.data(), bytes.size());
  PLOG_IF(WARNING, num_written != static_cast<ssize_t>(bytes.size())) << path_;
  if (num_written > 0) size_ += num_written;
  is_in_line_ = bytes.back() != '\n';
}

}  // namespace quire
