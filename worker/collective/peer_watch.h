// SPDX-License-Identifier: Apache-2.0
//
// Ends a group as soon as one of its processes on this machine does, or when it
// is announced: what waits on a GPU learns of neither by itself.
#ifndef WORKER_COLLECTIVE_PEER_WATCH_H_
#define WORKER_COLLECTIVE_PEER_WATCH_H_

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "worker/collective/group_end.h"

namespace quire {

// Which process numbers mean the same: those of one namespace of one boot.
std::string ThisPidNamespace();

// Thread-safe. Has a thread that looks every kPeriod.
class PeerWatch {
 public:
  static constexpr absl::Duration kPeriod = absl::Milliseconds(20);

  // `announced` may be null; must live longer.
  explicit PeerWatch(const GroupEnd* announced);
  ~PeerWatch();

  // The group ends with this process, too, which is of this namespace. If there
  // is no such process, it ended just now.
  void Add(int32_t rank, int64_t pid);

  // Calls `on_end` once, on the watch's thread or at once, when the group ends.
  void OnEnd(std::function<void()> on_end);

  // Announced when the group ends, for whichever reason.
  const GroupEnd* end() const { return &end_; }
  absl::Status status() const { return end_.status(); }
  // Ends it: whoever meets an error first.
  void End(const absl::Status& cause);

 private:
  struct Process {
    int32_t rank;
    int64_t pid;
    int fd;
  };

  void Watch();
  // Why the group is over, as far as its processes tell, or OK.
  absl::Status CheckProcesses();

  const GroupEnd* const announced_;
  GroupEnd end_;
  absl::Mutex mutex_;
  std::vector<Process> processes_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_end_ ABSL_GUARDED_BY(mutex_);
  absl::Notification leaving_;
  std::thread thread_;
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_PEER_WATCH_H_
