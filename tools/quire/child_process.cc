// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/child_process.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/cli/signals.h"

namespace quire {
namespace {

constexpr size_t kTailLines = 20;
// A child that writes no line ends must not fill the launcher's memory.
constexpr size_t kMaxLineBytes = 64 << 10;
// What a shell reports for a program that cannot be executed.
constexpr int kExecFailed = 127;

absl::Status SystemError(absl::string_view what) {
  return absl::InternalError(absl::StrCat(what, ": ", strerror(errno)));
}

struct PipeEnds {
  int read = -1;
  int write = -1;
};

absl::StatusOr<PipeEnds> MakePipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return SystemError("pipe");
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return PipeEnds{fds[0], fds[1]};
}

// Between fork and exec: only async-signal-safe calls.
[[noreturn]] void BecomeProgram(char* const* argv, int out_fd, int err_fd,
                                pid_t launcher) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The launcher may have died before prctl took effect.
  if (getppid() != launcher) _exit(kExecFailed);
  RestoreDefaultSignals();
  const int null_fd = open("/dev/null", O_RDONLY);
  dup2(null_fd, STDIN_FILENO);
  dup2(out_fd, STDOUT_FILENO);
  dup2(err_fd, STDERR_FILENO);
  execv(argv[0], argv);
  constexpr char kMessage[] = "cannot execute this program\n";
  (void)!write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  _exit(kExecFailed);
}

}  // namespace

ChildProcess::ChildProcess(Options options) : options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    Options options) {
  CHECK(!options.argv.empty());
  const std::string& program = options.argv[0];
  if (access(program.c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("cannot start the ", options.name,
                                            ": ", program, ": ",
                                            strerror(errno)));
  }
  std::unique_ptr<ChildProcess> child(new ChildProcess(std::move(options)));
  QUIRE_ASSIGN_OR_RETURN(
      child->log_,
      LogFile::Open(child->log_path(), child->options_.max_log_bytes));
  absl::StatusOr<PipeEnds> out = MakePipe();
  if (!out.ok()) return out.status();
  child->stdout_.fd = out->read;
  absl::StatusOr<PipeEnds> err = MakePipe();
  if (!err.ok()) {
    close(out->write);
    return err.status();
  }
  child->stderr_.fd = err->read;

  // Everything that allocates happens before the fork.
  std::vector<char*> argv;
  for (const std::string& arg : child->options_.argv) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  argv.push_back(nullptr);
  const pid_t launcher = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeProgram(argv.data(), out->write, err->write, launcher);
  close(out->write);
  close(err->write);
  if (pid < 0) return SystemError("fork");
  child->pid_ = pid;
  // The child does the same; whichever comes first closes the race with
  // Signal().
  setpgid(pid, pid);
  return child;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !has_exited()) {
    Signal(SIGKILL);
    int ignored;
    while (waitpid(pid_, &ignored, 0) < 0 && errno == EINTR) {
    }
  }
  for (const int fd : {stdout_.fd, stderr_.fd}) {
    if (fd >= 0) close(fd);
  }
}

void ChildProcess::ReadOutput() {
  ReadPipe(&stdout_, options_.on_stdout_line);
  ReadPipe(&stderr_, [this](const std::string& line) {
    tail_.push_back(line);
    if (tail_.size() > kTailLines) tail_.pop_front();
    if (options_.on_stderr_line) options_.on_stderr_line(line);
  });
}

void ChildProcess::ReadPipe(
    Pipe* pipe, const std::function<void(const std::string&)>& on_line) {
  char buffer[16 << 10];
  while (pipe->fd >= 0) {
    const ssize_t num_bytes = read(pipe->fd, buffer, sizeof(buffer));
    if (num_bytes < 0 && errno == EINTR) continue;
    if (num_bytes < 0 && errno == EAGAIN) return;
    if (num_bytes <= 0) {
      close(pipe->fd);
      pipe->fd = -1;
      if (!pipe->partial.empty() && on_line) on_line(pipe->partial);
      pipe->partial.clear();
      return;
    }
    const absl::string_view bytes(buffer, num_bytes);
    log_->Append(bytes);
    for (const char c : bytes) {
      if (c != '\n') pipe->partial.push_back(c);
      if (c != '\n' && pipe->partial.size() < kMaxLineBytes) continue;
      if (on_line) on_line(pipe->partial);
      pipe->partial.clear();
    }
  }
}

bool ChildProcess::Reap() {
  if (has_exited()) return true;
  int status;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  wait_status_ = status;
  ReadOutput();
  return true;
}

void ChildProcess::Signal(int signal) {
  if (!has_exited()) kill(-pid_, signal);
}

int ChildProcess::exit_code() const {
  CHECK(has_exited());
  return WIFSIGNALED(*wait_status_) ? 128 + WTERMSIG(*wait_status_)
                                    : WEXITSTATUS(*wait_status_);
}

std::string ChildProcess::DescribeExit() const {
  CHECK(has_exited());
  if (WIFSIGNALED(*wait_status_)) {
    const int number = WTERMSIG(*wait_status_);
    return absl::StrCat("was killed by signal ", number, " (",
                        strsignal(number), ")");
  }
  return absl::StrCat("exited with status ", WEXITSTATUS(*wait_status_));
}

}  // namespace quire
