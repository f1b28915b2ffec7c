// SPDX-License-Identifier: Apache-2.0
//
// A group whose ranks are threads of one process: for tests, and for a world
// of one.
#ifndef WORKER_COLLECTIVE_LOCAL_H_
#define WORKER_COLLECTIVE_LOCAL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"

namespace quire {

// Owns its ranks' collectives, which must not outlive it. Each is used by one
// thread; Break() may be called from any.
class LocalGroup {
 public:
  // A rank that waits longer than `timeout` for its peers reports Unavailable.
  explicit LocalGroup(int32_t world_size,
                      absl::Duration timeout = absl::Seconds(60));
  ~LocalGroup();

  Collective* collective(int32_t rank) const;
  int32_t world_size() const { return static_cast<int32_t>(ranks_.size()); }

  // Every operation, running or to come, fails as if a peer had died.
  void Break();

 private:
  class Rank;

  // Returns once every rank has arrived.
  absl::Status Arrive();

  const absl::Duration timeout_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  // What each rank brought to the running operation; written by the rank before
  // a barrier and read by the others after it.
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;

  absl::Mutex mutex_;
  int32_t num_arrived_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t round_ ABSL_GUARDED_BY(mutex_) = 0;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_LOCAL_H_
