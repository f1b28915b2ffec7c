// SPDX-License-Identifier: Apache-2.0
//
// A process that the launcher starts and that never outlives it.
#ifndef TOOLS_QUIRE_CHILD_PROCESS_H_
#define TOOLS_QUIRE_CHILD_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/quire/log_file.h"

namespace quire {

// Runs in its own process group, so that a terminal's Ctrl-C reaches only the
// launcher, and dies by SIGKILL when the launcher does (PR_SET_PDEATHSIG).
//
// Thread-hostile: the thread that calls Start must live as long as the child,
// because the kernel counts that thread's end as the parent's death.
class ChildProcess {
 public:
  struct Options {
    std::string name;               // in messages, such as "worker 0"
    std::vector<std::string> argv;  // argv[0] is the program's path
    std::string log_path;           // receives stdout and stderr; a LogFile
    int64_t max_log_bytes = 10 << 20;
    // Hears each line of stdout and of stderr, in order, as it arrives.
    std::function<void(const std::string& line)> on_stdout_line;
    std::function<void(const std::string& line)> on_stderr_line;
  };

  // NotFound if the program is missing; Internal if the system refuses.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(Options options);

  // Kills the process group and reaps the child if it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  const std::string& name() const { return options_.name; }
  const std::string& log_path() const { return options_.log_path; }
  pid_t pid() const { return pid_; }
  // Readable when there is output; -1 after its end.
  int stdout_fd() const { return stdout_.fd; }
  int stderr_fd() const { return stderr_.fd; }

  // Reads what is there without waiting.
  void ReadOutput();
  // Reaps the child if it has ended. Whether it has.
  bool Reap();
  // Sends `signal` to the child's process group unless it has ended.
  void Signal(int signal);

  bool has_exited() const { return wait_status_.has_value(); }
  // 0 to 255, or 128 + n after signal n. REQUIRES: has_exited().
  int exit_code() const;
  // "exited with status 3" or "was killed by signal 9 (Killed)".
  // REQUIRES: has_exited().
  std::string DescribeExit() const;
  // The newest lines of stderr, oldest first.
  const std::deque<std::string>& stderr_tail() const { return tail_; }

 private:
  struct Pipe {
    int fd = -1;
    std::string partial = "";  // a line whose end has not come yet
  };

  explicit ChildProcess(Options options);
  void ReadPipe(Pipe* pipe,
                const std::function<void(const std::string&)>& on_line);

  const Options options_;
  pid_t pid_ = -1;
  Pipe stdout_;
  Pipe stderr_;
  std::unique_ptr<LogFile> log_;
  std::optional<int> wait_status_;
  std::deque<std::string> tail_;
};

}  // namespace quire

#endif  // TOOLS_QUIRE_CHILD_PROCESS_H_
