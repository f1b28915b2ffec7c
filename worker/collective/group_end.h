// SPDX-License-Identifier: Apache-2.0
//
// Tells those who wait for peers, on whatever thread, that there is no group to
// wait for any more.
#ifndef WORKER_COLLECTIVE_GROUP_END_H_
#define WORKER_COLLECTIVE_GROUP_END_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace quire {

// Thread-safe. Over once and for all: a group never begins anew under the same
// epoch.
class GroupEnd {
 public:
  // The first cause stays. REQUIRES: !cause.ok().
  void Announce(const absl::Status& cause);

  // OK as long as the group lasts, then the cause.
  absl::Status status() const;

  // The same, after waiting for the end for so long.
  absl::Status Await(absl::Duration timeout) const;

 private:
  mutable absl::Mutex mutex_;
  absl::Status cause_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_GROUP_END_H_
