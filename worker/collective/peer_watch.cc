// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/peer_watch.h"

#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {
namespace {

absl::Status Ended(int32_t rank, int64_t pid) {
  return absl::UnavailableError(
      absl::StrCat("rank ", rank, " ended (process ", pid, ")"));
}

}  // namespace

std::string ThisPidNamespace() {
  char name[64] = {};
  const ssize_t length = readlink("/proc/self/ns/pid", name, sizeof(name) - 1);
  return length > 0 ? std::string(name, length) : std::string();
}

PeerWatch::PeerWatch(const GroupEnd* announced)
    : announced_(announced), thread_([this] { Watch(); }) {}

PeerWatch::~PeerWatch() {
  leaving_.Notify();
  thread_.join();
  absl::MutexLock lock(&mutex_);
  for (const Process& process : processes_) close(process.fd);
}

void PeerWatch::Add(int32_t rank, int64_t pid) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) {
    if (errno == ESRCH) {
      End(Ended(rank, pid));
    } else {
      PLOG(WARNING) << "rank " << rank << " (process " << pid
                    << ") cannot be watched";
    }
    return;
  }
  absl::MutexLock lock(&mutex_);
  processes_.push_back({rank, pid, fd});
}

void PeerWatch::OnEnd(std::function<void()> on_end) {
  {
    absl::MutexLock lock(&mutex_);
    if (end_.status().ok()) {
      on_end_ = std::move(on_end);
      return;
    }
  }
  on_end();
}

void PeerWatch::End(const absl::Status& cause) {
  std::function<void()> on_end;
  {
    absl::MutexLock lock(&mutex_);
    end_.Announce(cause);
    on_end.swap(on_end_);
  }
  if (on_end != nullptr) on_end();
}

absl::Status PeerWatch::CheckProcesses() {
  absl::MutexLock lock(&mutex_);
  for (const Process& process : processes_) {
    pollfd poll_fd = {process.fd, POLLIN, 0};
    if (poll(&poll_fd, 1, /*timeout=*/0) > 0) {
      return Ended(process.rank, process.pid);
    }
  }
  return absl::OkStatus();
}

void PeerWatch::Watch() {
  pthread_setname_np(pthread_self(), "quire-peers");
  while (true) {
    absl::Status cause;
    if (announced_ != nullptr) {
      cause = announced_->Await(kPeriod);
    } else {
      leaving_.WaitForNotificationWithTimeout(kPeriod);
    }
    if (leaving_.HasBeenNotified()) return;
    if (cause.ok()) cause = CheckProcesses();
    if (cause.ok()) cause = end_.status();
    if (cause.ok()) continue;
    LOG(WARNING) << "leaving the group: " << cause.message();
    End(cause);
    return;
  }
}

}  // namespace quire
