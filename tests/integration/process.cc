// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Milliseconds until `deadline` for poll(), never negative.
int PollTimeout(absl::Time deadline) {
  return static_cast<int>(
      std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now())));
}

// In the child: dies with `parent`, wires the descriptors, becomes argv.
[[noreturn]] void Exec(pid_t parent, int stdout_fd, int stderr_fd,
                       const std::vector<char*>& argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before prctl
  dup2(stdout_fd, STDOUT_FILENO);
  dup2(stderr_fd, STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Start(
    const std::vector<std::string>& argv, const std::string& stderr_path) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return absl::InternalError("pipe failed");
  const int stderr_fd =
      open(stderr_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (stderr_fd < 0) {
    return absl::InternalError(absl::StrCat("cannot write ", stderr_path));
  }
  std::vector<char*> pointers;
  for (const std::string& arg : argv) {
    pointers.push_back(const_cast<char*>(arg.c_str()));
  }
  pointers.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Exec(parent, fds[1], stderr_fd, pointers);
  close(fds[1]);
  close(stderr_fd);
  if (pid < 0) return absl::InternalError("fork failed");
  return std::unique_ptr<Process>(new Process(pid, fds[0], stderr_path));
}

Process::Process(pid_t pid, int stdout_fd, std::string stderr_path)
    : pid_(pid), stdout_fd_(stdout_fd), stderr_path_(std::move(stderr_path)) {}

Process::~Process() {
  if (exit_code_ < 0) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(stdout_fd_);
}

absl::StatusOr<std::string> Process::ReadLine(const std::string& prefix,
                                              absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    for (size_t end; (end = buffer_.find('\n')) != std::string::npos;) {
      const std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (absl::StartsWith(line, prefix)) return line;
    }
    pollfd ready = {stdout_fd_, POLLIN, 0};
    if (poll(&ready, 1, PollTimeout(deadline)) <= 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("no line \"", prefix, "\" in time; stderr: ", Stderr()));
    }
    char chunk[4096];
    const ssize_t got = read(stdout_fd_, chunk, sizeof(chunk));
    if (got <= 0) {
      return absl::OutOfRangeError(
          absl::StrCat("ended without \"", prefix, "\"; stderr: ", Stderr()));
    }
    buffer_.append(chunk, got);
  }
}

void Process::Signal(int signal) const {
  if (exit_code_ < 0) kill(pid_, signal);
}

absl::StatusOr<int> Process::Wait(absl::Duration timeout) {
  if (exit_code_ >= 0) return exit_code_;
  const int pidfd = syscall(SYS_pidfd_open, pid_, 0);
  if (pidfd < 0) return absl::InternalError(strerror(errno));
  pollfd ready = {pidfd, POLLIN, 0};
  const int changed = poll(&ready, 1, PollTimeout(absl::Now() + timeout));
  close(pidfd);
  if (changed <= 0) {
    return absl::DeadlineExceededError(
        absl::StrCat("process ", pid_, " still runs; stderr: ", Stderr()));
  }
  int status = 0;
  CHECK_EQ(waitpid(pid_, &status, 0), pid_);
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return exit_code_;
}

std::string Process::Stderr() const {
  std::ifstream file(stderr_path_);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace quire
