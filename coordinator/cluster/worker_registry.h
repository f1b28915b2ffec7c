// SPDX-License-Identifier: Apache-2.0
//
// Which worker sits on which rank of which group, and whether it lives. A group
// is complete when each of its ranks is taken; from there on its members share
// one fate: when one is lost, the group's epoch is over for all.
//
//   JOINING --complete--> LOADING --> WARMING --> READY
//      ^  \                  |           |          |
//      |   (a member that is +-----------+----------+--> DEAD
//      |    gone only leaves)                             |
//      +----------------------- Reform (epoch + 1) -------+
//
// A state machine: it is told everything, asks only the clock, and calls
// nobody.
#ifndef COORDINATOR_CLUSTER_WORKER_REGISTRY_H_
#define COORDINATOR_CLUSTER_WORKER_REGISTRY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "coordinator/dispatch/link_report.h"

namespace quire {

// As quire.v1.GroupState; draining is the whole coordinator's.
enum class GroupState { kJoining, kLoading, kWarming, kReady, kDead };

// A worker that wants to join.
struct WorkerOffer {
  std::string address;           // "host:port"
  uint64_t instance_id = 0;      // random at process start
  std::string device;            // "cpu" or "cuda"
  std::optional<int32_t> group;  // wanted; unset: any, and so is the rank
  std::optional<int32_t> rank;
  uint64_t pid = 0;
  std::string version;
};

struct Seat {
  int32_t group = 0;
  int32_t rank = 0;
  int32_t world_size = 0;
  Epoch coordinator_epoch;
  Epoch group_epoch;
};

// A group whose last rank has just joined.
struct FormedGroup {
  int32_t group = 0;
  Epoch group_epoch;
  std::string device;
  std::vector<std::string> addresses;  // [world_size], by rank
};

struct Registration {
  Seat seat;
  std::optional<FormedGroup> formed;  // by this very registration
};

struct GroupLoss {
  int32_t group = 0;
  Epoch group_epoch;
  absl::Status cause;
};

// A worker that has lost its seat without leaving it: it hears so at its next
// heartbeat and ends, unless it is stopped or hangs.
struct DismissedWorker {
  int32_t group = 0;
  int32_t rank = 0;
  uint64_t pid = 0;  // on its own machine
};

struct LoadProgress {
  std::string phase;  // "collective", "weights", "done"
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct RankInfo {
  int32_t rank = 0;
  std::string address;
  std::string device;
  uint64_t pid = 0;
  absl::Duration heartbeat_age;
  bool suspect = false;
  LoadProgress load;
  StepId last_step;
  LinkReport links;
};

struct GroupInfo {
  int32_t group = 0;
  Epoch group_epoch;
  GroupState state = GroupState::kJoining;
  std::string detail;  // one line: what it waits for, how an epoch ended
  std::vector<RankInfo> ranks;
};

// Thread-safe.
class WorkerRegistry {
 public:
  struct Options {
    int32_t num_groups = 1;
    int32_t world_size = 1;  // ranks of a group
    bool reform = false;     // Reform() follows the end of every epoch
    // Of silence, after which a worker is lost. [1 s, 10 min]
    absl::Duration heartbeat_timeout = absl::Seconds(3);
  };

  // `clock` must outlive this.
  WorkerRegistry(const Options& options, Epoch coordinator_epoch,
                 const Clock* clock);

  // Seats a worker; the same instance asking again is told the same seat.
  // The first free place that is as wanted, by group and then by rank.
  // AlreadyExists when there is none and a rank or group was wanted,
  // ResourceExhausted when there is none at all, InvalidArgument when the rank
  // or group does not exist or the device is not the cluster's (that of its
  // first worker), FailedPrecondition when there is none because a group was
  // lost and is not formed again.
  absl::StatusOr<Registration> Register(const WorkerOffer& offer);

  // FailedPrecondition when the instance has no seat in that epoch.
  absl::Status Heartbeat(uint64_t instance_id, Epoch coordinator_epoch,
                         Epoch group_epoch, StepId last_step);

  // The instance is gone for good. Frees its seat if its group is joining, so
  // that another may take it at once; a complete group's members are missed by
  // whoever talks to them. No effect once the epoch is over.
  void Leave(uint64_t instance_id, Epoch coordinator_epoch, Epoch group_epoch);

  // FailedPrecondition unless `group_epoch` is the group's and it lives.
  absl::Status CheckEpoch(int32_t group, Epoch group_epoch) const;

  // No effect once the epoch is over.
  void SetState(int32_t group, Epoch group_epoch, GroupState state);
  void SetLoadProgress(int32_t group, Epoch group_epoch, int32_t rank,
                       const LoadProgress& progress);
  void SetLinks(int32_t group, Epoch group_epoch, int32_t rank,
                const LinkReport& links);

  // Ends an epoch: members' next heartbeats are refused. Returns whether it
  // was this call that ended it.
  bool EndEpoch(int32_t group, Epoch group_epoch, const absl::Status& cause);

  // Lets a dead group be joined again, under the next epoch.
  void Reform(int32_t group);

  // Removes silent members of a group that is joining; ends the epoch of a
  // complete one that has any, and returns it. Half the timeout makes a member
  // suspect, and a suspect has a heartbeat's time at least to be heard: when
  // this process has stood still, what was said meanwhile is read after.
  std::optional<GroupLoss> Tick(int32_t group);

  // Who was dismissed from the group since the last call: its silent members
  // and all of an epoch that ended.
  std::vector<DismissedWorker> TakeDismissed(int32_t group);

  std::vector<GroupInfo> Groups() const;
  // "" until a worker has joined.
  std::string device() const;
  // In which a worker is to say that it lives: each half second, and six times
  // within the timeout, so that a few late ones are no loss.
  absl::Duration heartbeat_period() const;
  absl::Duration heartbeat_timeout() const {
    return options_.heartbeat_timeout;
  }
  Epoch coordinator_epoch() const { return coordinator_epoch_; }

 private:
  struct Member {
    WorkerOffer offer;
    absl::Time last_heartbeat;
    std::optional<absl::Time> suspected_at;  // of this silence
    LoadProgress load;
    StepId last_step;
    LinkReport links;
  };
  struct Group {
    Epoch epoch{1};
    GroupState state = GroupState::kJoining;
    std::string detail;
    std::vector<std::optional<Member>> members;  // [world_size]
    std::vector<DismissedWorker> dismissed;      // not yet taken
  };

  Group* FindLiving(int32_t group, Epoch group_epoch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Seat> FindSeat(uint64_t instance_id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Seat> ChooseSeat(const WorkerOffer& offer) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // FailedPrecondition if the wanted group, or without one any, is dead for
  // good: then that is why there is no place.
  absl::Status CheckNoneIsLost(const std::optional<int32_t>& wanted) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(int32_t group, const absl::Status& cause)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // REQUIRES: the rank is taken.
  void Dismiss(int32_t group, int32_t rank)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const Epoch coordinator_epoch_;
  const Clock* const clock_;
  mutable absl::Mutex mutex_;
  std::string device_ ABSL_GUARDED_BY(mutex_);  // "": nobody has joined yet
  std::vector<Group> groups_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_WORKER_REGISTRY_H_
