// SPDX-License-Identifier: Apache-2.0
//
// Leads a group through its epochs: launches it once it is formed, passes the
// dispatcher's news on to its engine, and ends the epoch in every room when a
// rank is lost, whoever noticed first.
#ifndef COORDINATOR_CLUSTER_GROUP_CONTROLLER_H_
#define COORDINATOR_CLUSTER_GROUP_CONTROLLER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "coordinator/cluster/known_pools.h"
#include "coordinator/cluster/rendezvous_board.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/dispatch/group_launcher.h"
#include "coordinator/dispatch/grpc_dispatcher.h"

namespace quire {

// Thread-safe.
class GroupController final : public DispatchListener {
 public:
  struct Options {
    int32_t group = 0;
    int32_t num_groups = 1;       // of the cluster
    KnownPools* pools = nullptr;  // of all groups; borrowed, may be null
    // Let a lost group be joined again under its next epoch.
    bool reform = false;
    StepWatchdog::Options watchdog;
  };
  struct Callbacks {
    std::function<void(const LaunchedGroup&)> on_ready;
    // Once per epoch, before the next may begin. `was_ready`: in this epoch.
    std::function<void(const absl::Status& cause, bool was_ready)> on_lost;
    std::function<void(int32_t rank, const LoadProgress&)> on_load;
    // A worker has lost its seat, a tenth of a second ago or less.
    std::function<void(const DismissedWorker&)> on_dismissed;
  };

  // All borrowed, and must outlive this; `metrics` may be null.
  GroupController(const Options& options, Callbacks callbacks,
                  WorkerRegistry* registry, RendezvousBoard* board,
                  GroupLauncher* launcher, const Clock* clock,
                  StepMetrics* metrics);
  // Stop()s.
  ~GroupController() override;

  // What the engine sends its plans to.
  Dispatcher* dispatcher() { return &dispatcher_; }

  // `engine` hears of groups and steps from now until Stop() returns.
  void Start(DispatchListener* engine, Clock* clock);

  // Cancels a launch, stops the threads. Streams end in the destructor.
  void Stop();

  // Queues the group, which is formed, for launching.
  void Launch(const FormedGroup& group);

  void OnGroupReady(const GroupReady& group) override;
  void OnStepResult(StepResult result) override;
  void OnGroupLost(Epoch group_epoch, const absl::Status& cause) override;

 private:
  void RunLaunches();
  void LaunchNow(const FormedGroup& group);
  void WatchLiveness(Clock* clock);
  // Ends the epoch everywhere, then says so once.
  void EndEpoch(Epoch group_epoch, const absl::Status& cause);

  const Options options_;
  const Callbacks callbacks_;
  WorkerRegistry* const registry_;
  RendezvousBoard* const board_;
  GroupLauncher* const launcher_;
  DispatchListener* engine_ = nullptr;  // set before any thread starts

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<FormedGroup> formed_ ABSL_GUARDED_BY(mutex_);
  Epoch ready_epoch_ ABSL_GUARDED_BY(mutex_);  // the last that became ready
  Epoch lost_epoch_ ABSL_GUARDED_BY(mutex_);   // the last that was lost

  GrpcDispatcher dispatcher_;  // after what its callbacks use
  std::thread launch_thread_;
  std::thread liveness_thread_;
};

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_GROUP_CONTROLLER_H_
