// SPDX-License-Identifier: Apache-2.0
//
// A child process of a test: started, listened to, killed and reaped.
#ifndef TESTS_INTEGRATION_PROCESS_H_
#define TESTS_INTEGRATION_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace quire {

// Thread-compatible. The child dies with the test, however that ends.
class Process {
 public:
  // Runs argv[0] with the rest as arguments. The child's stderr goes to
  // `stderr_path`, its stdout to a pipe that ReadLine reads.
  static absl::StatusOr<std::unique_ptr<Process>> Start(
      const std::vector<std::string>& argv, const std::string& stderr_path);

  // Kills what still runs.
  ~Process();

  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }

  // The next line of stdout that begins with `prefix`, skipping others.
  // DeadlineExceeded after `timeout`; OutOfRange when stdout ends without it.
  // Both quote the end of stderr.
  absl::StatusOr<std::string> ReadLine(const std::string& prefix,
                                       absl::Duration timeout);

  void Signal(int signal) const;

  // The exit code, or 128 + the signal that ended it. DeadlineExceeded if it
  // still runs after `timeout`.
  absl::StatusOr<int> Wait(absl::Duration timeout);

  // Whatever it wrote to stderr so far.
  std::string Stderr() const;

 private:
  Process(pid_t pid, int stdout_fd, std::string stderr_path);

  pid_t pid_;
  int stdout_fd_;
  int exit_code_ = -1;  // -1: not reaped
  std::string stderr_path_;
  std::string buffer_;  // stdout not yet returned
};

}  // namespace quire

#endif  // TESTS_INTEGRATION_PROCESS_H_
