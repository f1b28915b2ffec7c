// SPDX-License-Identifier: Apache-2.0
//
// When a worker that ended is started again: at once the first time, as most
// losses are no fault of its own, then after delays that double up to a
// minute. Who has lived for ten minutes has a clean slate. And when one that is
// to end is killed: it may be stopped, or hang.
#ifndef TOOLS_QUIRE_WORKER_LIFE_H_
#define TOOLS_QUIRE_WORKER_LIFE_H_

#include <optional>

#include "absl/time/time.h"

namespace quire {

// Of one rank, whichever process is it. Thread-compatible.
class WorkerLife {
 public:
  enum class Restarts {
    kNever,
    kAFewTimes,  // who ends more often has what a new process does not cure
    kAlways,     // others serve meanwhile, and somebody may mend it
  };

  // The process is to end by itself until `deadline`. Nothing if it has ended.
  void Dismiss(absl::Time deadline);
  // Whether the deadline is over. Says so once.
  bool TakeOverdue(absl::Time now);
  // The process has ended. REQUIRES: !is_over().
  void End(Restarts restarts, absl::Time now);
  // Another has begun. REQUIRES: restart_at() is set.
  void Begin(absl::Time now);

  // Whether the process has ended, and no other has begun.
  bool is_over() const { return is_lost_ || restart_at_.has_value(); }
  // Whether it has ended and none begins any more.
  bool is_lost() const { return is_lost_; }
  // Whether a process has ended since the last long life.
  bool has_failed() const { return is_over() || num_restarts_ > 0; }
  // Of who is over and not lost.
  std::optional<absl::Time> restart_at() const { return restart_at_; }
  // Of who is dismissed, and not overdue.
  std::optional<absl::Time> deadline() const { return deadline_; }

 private:
  bool is_lost_ = false;
  int num_restarts_ = 0;  // since the last long life
  absl::Time begun_ = absl::InfinitePast();
  std::optional<absl::Time> restart_at_;
  std::optional<absl::Time> deadline_;
};

}  // namespace quire

#endif  // TOOLS_QUIRE_WORKER_LIFE_H_
