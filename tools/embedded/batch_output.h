// SPDX-License-Identifier: Apache-2.0
//
// A file of answers that a killed run leaves behind and the next one goes on
// with.
#ifndef TOOLS_EMBEDDED_BATCH_OUTPUT_H_
#define TOOLS_EMBEDDED_BATCH_OUTPUT_H_

#include <memory>
#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace quire {

// Lines of JSON objects, each with a string "id". Thread-compatible.
class BatchOutput final {
 public:
  // Opens or makes the file, for this process alone. A last line without its
  // end, which a kill tore, is cut off. Unavailable if another process writes
  // it; InvalidArgument, with the line, if a line is none of ours.
  static absl::StatusOr<std::unique_ptr<BatchOutput>> Open(
      const std::string& path);

  ~BatchOutput();
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;

  // Whether the file has an answer for `id`.
  bool Has(const std::string& id) const { return ids_.count(id) > 0; }
  size_t num_lines() const { return ids_.size(); }

  // Adds a line, without its end, at once: a kill leaves all of it or a torn
  // one. REQUIRES: its id is `id`, which the file has not.
  absl::Status Append(const std::string& id, const std::string& line);

 private:
  BatchOutput(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  absl::Status ReadIds();
  absl::Status Fail(const char* what) const;

  const std::string path_;
  const int fd_;
  std::unordered_set<std::string> ids_;
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_BATCH_OUTPUT_H_
