// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/batch_output.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
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
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return absl::UnavailableError(absl::StrCat(
        "--output=", path, ": another run writes it; wait for its end"));
  }
  QUIRE_RETURN_IF_ERROR(output->ReadIds());
  return output;
}

BatchOutput::~BatchOutput() { close(fd_); }

absl::Status BatchOutput::ReadIds() {
  std::ifstream file(path_, std::ios::binary);
  std::string line;
  off_t whole_bytes = 0;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (file.eof()) break;  // torn: it has no end
    whole_bytes += static_cast<off_t>(line.size()) + 1;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const auto id = json.is_object() ? json.find("id") : json.end();
    if (!json.is_object() || id == json.end() || !id->is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--output=", path_, ": line ", number,
                       " is no answer of an earlier run; name another file"));
    }
    ids_.insert(id->get<std::string>());
  }
  if (ftruncate(fd_, whole_bytes) != 0) return Fail("cannot cut a torn line");
  return absl::OkStatus();
}

absl::Status BatchOutput::Append(const std::string& id,
                                 const std::string& line) {
  const std::string whole = absl::StrCat(line, "\n");
  size_t written = 0;
  while (written < whole.size()) {
    const ssize_t n =
        write(fd_, whole.data() + written, whole.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Fail("cannot write");
    written += static_cast<size_t>(n);
  }
  ids_.insert(id);
  return absl::OkStatus();
}

absl::Status BatchOutput::Fail(const char* what) const {
  return absl::InternalError(
      absl::StrCat("--output=", path_, ": ", what, ": ", strerror(errno)));
}

}  // namespace quire
