// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {

absl::StatusOr<std::unique_ptr<BatchOutput>> BatchOutput::Open(
    const std::string& path) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output=", path, ": ", strerror(errno)));
  }
  std::unique_ptr<BatchOutput> output(new BatchOutput(path, fd));
  QUIRE_RETURN_IF_ERROR(output->Lock(fd));
  QUIRE_ASSIGN_OR_RETURN(const Contents contents, output->ReadIds());
  if (ftruncate(fd, contents.whole_bytes) != 0) {
    return output->Fail("cannot cut a torn line");
  }
  if (!contents.errors.empty()) {
    QUIRE_RETURN_IF_ERROR(output->LeaveOut(contents));
  }
  return output;
}

BatchOutput::~BatchOutput() {
  close(fd_);
  if (replaced_fd_ >= 0) close(replaced_fd_);
}

absl::Status BatchOutput::Lock(int fd) const {
  struct stat locked, named;
  const bool is_ours =
      flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &locked) == 0 &&
      stat(path_.c_str(), &named) == 0 && locked.st_ino == named.st_ino &&
      locked.st_dev == named.st_dev;
  if (is_ours) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "--output=", path_, ": another run writes it; wait for its end"));
}

absl::StatusOr<BatchOutput::Contents> BatchOutput::ReadIds() {
  std::ifstream file(path_, std::ios::binary);
  std::string line;
  Contents contents;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (file.eof()) break;  // torn: it has no end
    contents.whole_bytes += static_cast<int64_t>(line.size()) + 1;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const auto id = json.is_object() ? json.find("id") : json.end();
    if (!json.is_object() || id == json.end() || !id->is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--output=", path_, ": line ", number,
                       " is no answer of an earlier run; name another file"));
    }
    if (json.contains("error")) {
      contents.errors.insert(number);
    } else {
      ids_.insert(id->get<std::string>());
    }
  }
  return contents;
}

absl::Status BatchOutput::LeaveOut(const Contents& contents) {
  std::error_code error;
  const std::string place = std::filesystem::canonical(path_, error).string();
  if (error) return Fail("cannot find it again");
  const std::string draft = absl::StrCat(place, ".rewritten");
  struct stat old;
  const int fd = open(draft.c_str(),
                      O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return Fail("cannot write a file beside it");
  replaced_fd_ = std::exchange(fd_, fd);
  if (fstat(replaced_fd_, &old) != 0 || fchmod(fd, old.st_mode & 07777) != 0 ||
      flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return Fail("cannot prepare the file beside it");
  }
  std::ifstream file(place, std::ios::binary);
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (contents.errors.count(number) > 0) continue;
    QUIRE_RETURN_IF_ERROR(WriteLine(line));
  }
  if (file.bad() || fsync(fd) != 0 ||
      rename(draft.c_str(), place.c_str()) != 0) {
    return Fail("cannot leave out its errors");
  }
  return absl::OkStatus();
}

absl::Status BatchOutput::WriteLine(const std::string& line) {
  const std::string whole = absl::StrCat(line, "\n");
  size_t written = 0;
  while (written < whole.size()) {
    const ssize_t n =
        write(fd_, whole.data() + written, whole.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Fail("cannot write");
    written += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::Status BatchOutput::Append(const std::string& id,
                                 const std::string& line) {
  QUIRE_RETURN_IF_ERROR(WriteLine(line));
  ids_.insert(id);
  return absl::OkStatus();
}

absl::Status BatchOutput::Fail(const char* what) const {
  return absl::InternalError(
      absl::StrCat("--output=", path_, ": ", what, ": ", strerror(errno)));
}

}  // namespace quire
