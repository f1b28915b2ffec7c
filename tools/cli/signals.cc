// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/signals.h"

#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace quire {

SignalEvents::SignalEvents(Children children) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  if (children == Children::kReport) sigaddset(&set, SIGCHLD);
  PCHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  PCHECK(fd_ >= 0) << "signalfd";
}

SignalEvents::~SignalEvents() {
  close(fd_);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

std::optional<int> SignalEvents::Next() {
  signalfd_siginfo info;
  if (read(fd_, &info, sizeof(info)) != sizeof(info)) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

InterruptWatcher::InterruptWatcher(SignalEvents* events,
                                   std::function<void(int)> on_interrupt)
    : events_(events),
      on_interrupt_(std::move(on_interrupt)),
      stop_fd_(eventfd(0, EFD_CLOEXEC)) {
  PCHECK(stop_fd_ >= 0) << "eventfd";
  thread_ = std::thread([this] { Watch(); });
}

InterruptWatcher::~InterruptWatcher() {
  const uint64_t one = 1;
  PCHECK(write(stop_fd_, &one, sizeof(one)) == sizeof(one));
  thread_.join();
  close(stop_fd_);
}

void InterruptWatcher::Watch() {
  while (true) {
    pollfd fds[] = {{events_->fd(), POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    if (poll(fds, 2, /*timeout=*/-1) < 0) continue;  // EINTR
    if (fds[1].revents != 0) return;
    while (const std::optional<int> signal = events_->Next()) {
      on_interrupt_(*signal);
    }
  }
}

void RestoreDefaultSignals() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGINT, SIGTERM, SIGCHLD, SIGPIPE}) {
    signal(number, SIG_DFL);
  }
}

}  // namespace quire
