// SPDX-License-Identifier: Apache-2.0
//
// The requests that the gateway holds, by name: to cancel one, and to drain
// all of them.
#ifndef COORDINATOR_GATEWAY_SESSION_TABLE_H_
#define COORDINATOR_GATEWAY_SESSION_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace quire {

class Session {
 public:
  virtual ~Session() = default;
  // Ends the request with `status`; its compute stops within a step. No effect
  // once it has ended. Any thread.
  virtual void Abort(const absl::Status& status) = 0;
};

// Thread-safe.
class SessionTable {
 public:
  struct DrainCounts {
    uint32_t num_finished = 0;
    uint32_t num_aborted = 0;
  };

  // AlreadyExists when a request of this name is held, Unavailable with reason
  // DRAINING when no new one is taken.
  absl::Status Add(const std::string& request_id,
                   std::shared_ptr<Session> session);
  void Remove(const std::string& request_id);

  // NotFound if there is none.
  absl::Status Cancel(const std::string& request_id);

  // Takes no new requests from now on, waits until those held have ended or
  // `deadline` passes, aborts the rest with Unavailable and waits until they
  // are gone too. `clock` is what `deadline` is told by.
  DrainCounts Drain(absl::Time deadline, Clock* clock);

  // Makes a Drain in progress abort the rest at once.
  void HurryDrain();

  bool is_draining() const;
  int64_t size() const;

 private:
  bool is_empty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return sessions_.empty();
  }
  bool may_stop_waiting() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return sessions_.empty() || hurried_;
  }

  mutable absl::Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool hurried_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_map<std::string, std::shared_ptr<Session>> sessions_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_SESSION_TABLE_H_
