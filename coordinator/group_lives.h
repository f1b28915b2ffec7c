// SPDX-License-Identifier: Apache-2.0
//
// Which replica groups are ready, on their way or lost, and who is told: health
// checks whether anything serves, whoever started the server when it does and
// what it has lost.
#ifndef COORDINATOR_GROUP_LIVES_H_
#define COORDINATOR_GROUP_LIVES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "coordinator/lost_group.h"

namespace quire {

// Thread-safe. Callbacks come one at a time, in the order of what they tell,
// under the lock: they must not call this.
class GroupLives {
 public:
  struct Options {
    int32_t num_groups = 1;
    bool reform = false;  // lost groups may be joined again
  };
  struct Callbacks {
    // Whether this is the group's epoch and is not over.
    std::function<bool(int32_t group_idx, Epoch group_epoch)> is_current;
    // What health checks are to hear.
    std::function<void(bool is_serving)> set_serving;
    // As CoordinatorCallbacks says, in coordinator.h; may be null.
    std::function<void(int32_t num_blocks, const std::string& missing)>
        on_ready;
    std::function<void(const LostGroup&)> on_lost;
  };

  // All groups are on their way.
  GroupLives(const Options& options, Callbacks callbacks);

  // The group's engine takes requests. No effect if the epoch is over by now:
  // OnLost tells of it, before or after.
  void OnReady(int32_t group_idx, Epoch group_epoch, int32_t num_blocks)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // The group's epoch is over. `was_launched`: its workers were ready in it,
  // the engine perhaps not.
  void OnLost(int32_t group_idx, const absl::Status& cause, bool was_launched)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Health checks hear from now on that nothing serves, whatever becomes ready.
  void StopServing() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Life {
    bool is_ready = false;
    bool is_lost = false;      // and not back
    bool is_hopeless = false;  // lost, and may not begin again
    int32_t num_blocks = 0;
    std::string cause = "";  // of the loss
  };

  bool IsAnyReady() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Notes the loss. What on_lost is told.
  LostGroup Lose(int32_t group_idx, const absl::Status& cause,
                 bool was_launched) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Calls on_ready if no group is on its way for the first time.
  void TellReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `cause`, with the group's number if there are several.
  absl::Status NameGroup(int32_t group_idx, const absl::Status& cause) const;

  const Options options_;
  const Callbacks callbacks_;
  absl::Mutex mutex_;
  std::vector<Life> lives_ ABSL_GUARDED_BY(mutex_);  // [num_groups]
  bool told_ready_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;  // serving
};

}  // namespace quire

#endif  // COORDINATOR_GROUP_LIVES_H_
