// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/gemm_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"

namespace quire {
namespace {

struct Line {
  GemmKey key;
  std::vector<uint64_t> choice;
};

// nullopt if it is another signature's, or not whole.
std::optional<Line> ParseLine(const std::string& text,
                              const std::string& signature, size_t num_words) {
  std::istringstream fields(text);
  std::string word;
  int64_t n, k, bucket;
  int dtype, y_dtype, extras;
  if (!(fields >> word) || word != signature) return std::nullopt;
  if (!(fields >> n >> k >> bucket >> dtype >> y_dtype >> extras)) {
    return std::nullopt;
  }
  Line line{GemmKey(n, k, bucket, dtype, y_dtype, extras), {}};
  for (uint64_t choice; fields >> std::hex >> choice;) {
    line.choice.push_back(choice);
  }
  if (!fields.eof() || line.choice.size() != num_words) return std::nullopt;
  return line;
}

}  // namespace

std::string GemmDevice(const std::string& name, int num_multiprocessors) {
  return absl::StrCat(absl::StrReplaceAll(name, {{" ", "_"}}), "/",
                      num_multiprocessors, "sm");
}

GemmCache::GemmCache(const std::string& path, const std::string& signature,
                     size_t num_words)
    : path_(path), signature_(signature), num_words_(num_words) {
  if (!path_.empty()) Read();
}

void GemmCache::Read() {
  std::ifstream file(path_);
  // A line without its end is one of a process that was killed, or is writing.
  for (std::string text; std::getline(file, text) && !file.eof();) {
    if (auto line = ParseLine(text, signature_, num_words_)) {
      choices_[line->key] = std::move(line->choice);
    }
  }
}

absl::Span<const uint64_t> GemmCache::Find(const GemmKey& key) const {
  const auto it = choices_.find(key);
  if (it == choices_.end()) return {};
  return it->second;
}

void GemmCache::Keep(const GemmKey& key, absl::Span<const uint64_t> choice) {
  CHECK_EQ(choice.size(), num_words_);
  choices_[key].assign(choice.begin(), choice.end());
  if (path_.empty()) return;
  const auto& [n, k, bucket, dtype, y_dtype, extras] = key;
  std::string line = absl::StrCat(signature_, " ", n, " ", k, " ", bucket, " ",
                                  dtype, " ", y_dtype, " ", extras);
  for (const uint64_t word : choice) {
    absl::StrAppend(&line, " ", absl::Hex(word));
  }
  line += '\n';
  if (Append(line)) return;
  PLOG(WARNING) << "cannot keep the choices of products in " << path_
                << ", so the next start makes them again";
  path_.clear();
}

bool GemmCache::Append(const std::string& line) const {
  const int fd =
      open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return false;
  errno = ENOSPC;  // unless the call knows better
  const ssize_t num_written = write(fd, line.data(), line.size());
  const int error = errno;
  close(fd);
  errno = error;
  return num_written == static_cast<ssize_t>(line.size());
}

}  // namespace quire
