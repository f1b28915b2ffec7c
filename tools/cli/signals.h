// SPDX-License-Identifier: Apache-2.0
//
// SIGINT, SIGTERM and SIGCHLD as readable events instead of handlers.
#ifndef TOOLS_CLI_SIGNALS_H_
#define TOOLS_CLI_SIGNALS_H_

#include <functional>
#include <optional>
#include <thread>

namespace quire {

// Takes over the process's SIGINT, SIGTERM and, on request, SIGCHLD, which are
// then read from fd(). Threads started later inherit the blocked mask, so make
// this first in main(). One at a time in a process.
//
// Thread-compatible.
class SignalEvents {
 public:
  enum class Children { kIgnore, kReport };

  explicit SignalEvents(Children children);
  ~SignalEvents();
  SignalEvents(const SignalEvents&) = delete;
  SignalEvents& operator=(const SignalEvents&) = delete;

  // Readable while a signal is pending.
  int fd() const { return fd_; }
  // The next pending signal; nullopt when there is none.
  std::optional<int> Next();

 private:
  int fd_;
};

// Calls `on_interrupt(signal)` from a thread of its own for every SIGINT or
// SIGTERM until destroyed. Borrows `events`, which nobody else may read.
class InterruptWatcher {
 public:
  InterruptWatcher(SignalEvents* events,
                   std::function<void(int signal)> on_interrupt);
  ~InterruptWatcher();
  InterruptWatcher(const InterruptWatcher&) = delete;
  InterruptWatcher& operator=(const InterruptWatcher&) = delete;

 private:
  void Watch();

  SignalEvents* const events_;
  const std::function<void(int)> on_interrupt_;
  int stop_fd_;
  std::thread thread_;
};

// For a process about to exec: the mask and the handlers it was born with.
// Async-signal-safe.
void RestoreDefaultSignals();

}  // namespace quire

#endif  // TOOLS_CLI_SIGNALS_H_
