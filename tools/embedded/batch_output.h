// SPDX-License-Identifier: Apache-2.0
//
// A file of answers that a killed run leaves behind and the next one goes on
// with.
#ifndef TOOLS_EMBEDDED_BATCH_OUTPUT_H_
#define TOOLS_EMBEDDED_BATCH_OUTPUT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace quire {

// Lines of JSON objects, each with a string "id". Thread-compatible.
class BatchOutput final {
 public:
  // Opens or makes the file, for this process alone. Lines that hold an "error"
  // are left out of it from here on, as their ids are to be tried again; so is
  // a last line without its end, which a kill tore. Whenever this process dies,
  // every other line is there. Unavailable if another process writes the file;
  // InvalidArgument, with the line, if a line is none of ours: then nothing is
  // left out.
  static absl::StatusOr<std::unique_ptr<BatchOutput>> Open(
      const std::string& path);

  ~BatchOutput();
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;

  // Whether the file has an answer for `id`, or an error of this run's.
  bool Has(const std::string& id) const { return ids_.count(id) > 0; }
  size_t num_lines() const { return ids_.size(); }

  // Adds a line, without its end, at once: a kill leaves all of it or a torn
  // one. REQUIRES: its id is `id`, which the file has not.
  absl::Status Append(const std::string& id, const std::string& line);

 private:
  BatchOutput(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  // What the file holds at its opening.
  struct Contents {
    int64_t whole_bytes = 0;             // of the lines that have their end
    std::unordered_set<int64_t> errors;  // numbers of lines, from 1
  };

  absl::Status Lock(int fd) const;
  absl::StatusOr<Contents> ReadIds();
  // Puts a file without these lines in its place.
  absl::Status LeaveOut(const Contents& contents);
  absl::Status WriteLine(const std::string& line);
  absl::Status Fail(const char* what) const;

  const std::string path_;
  int fd_;
  // The file that fd_ took the place of, locked as long as fd_ is: who opened
  // it before that is told that another run writes. -1: none.
  int replaced_fd_ = -1;
  std::unordered_set<std::string> ids_;
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_BATCH_OUTPUT_H_
