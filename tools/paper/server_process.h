// SPDX-License-Identifier: Apache-2.0
//
// A server of this machine for the length of a run.
#ifndef TOOLS_PAPER_SERVER_PROCESS_H_
#define TOOLS_PAPER_SERVER_PROCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/quire/child_process.h"

namespace quire {

// As ChildProcess: the thread that calls Start must outlive the object.
class ServerProcess {
 public:
  // Runs `quire serve` with `flags` and ports that the kernel picks. Returns
  // when it accepts requests. Its log and ready file are in `folder`.
  // Unavailable, with its last words, if it ends instead.
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(
      const std::string& quire, const std::vector<std::string>& flags,
      const std::string& folder);

  // "host:port" of the public API.
  const std::string& address() const { return address_; }

  // Asks it to drain and waits for its end. Unavailable, with its last words,
  // unless it ended well.
  absl::Status Stop();

 private:
  ServerProcess(std::unique_ptr<ChildProcess> child, std::string ready_file)
      : child_(std::move(child)), ready_file_(std::move(ready_file)) {}

  // Takes what the server says until `ready` or its end.
  absl::Status AwaitReady();
  // Waits for output, at most a moment.
  void Listen();
  absl::Status DescribeEnd() const;

  const std::unique_ptr<ChildProcess> child_;
  const std::string ready_file_;
  std::string address_;
};

}  // namespace quire

#endif  // TOOLS_PAPER_SERVER_PROCESS_H_
