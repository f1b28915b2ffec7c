// SPDX-License-Identifier: Apache-2.0
//
// A worker group and what drives it: engine loop, launcher, dispatcher and
// controller, composed. Several are replicas of one model, each with its own
// epochs, pool and queue; what they share is passed in.
#ifndef COORDINATOR_REPLICA_GROUP_H_
#define COORDINATOR_REPLICA_GROUP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/metrics/step_metrics.h"
#include "coordinator/cluster/group_controller.h"
#include "coordinator/cluster/rendezvous_board.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/dispatch/group_launcher.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/engine_watcher.h"
#include "coordinator/recording/recorder.h"

namespace quire {

// Thread-safe.
class ReplicaGroup {
 public:
  struct Options {
    EngineOptions engine;
    EngineSeat seat;  // among all groups' engines; its index is the group's
    LaunchOptions launch;
    GroupController::Options controller;
    std::string record;  // file to record the engine's inputs in; "": none
  };
  // All borrowed, for as long as the group lives.
  struct Shared {
    OutputListener* listener = nullptr;
    WorkerRegistry* registry = nullptr;
    RendezvousBoard* board = nullptr;
    StepMetrics* metrics = nullptr;
    Clock* clock = nullptr;
  };

  // InvalidArgument as EngineLoop::Create; Unavailable if it cannot record.
  // callbacks.on_ready comes when the engine takes requests for the group. The
  // epoch ends, Unavailable, if that is not within a few seconds.
  static absl::StatusOr<std::unique_ptr<ReplicaGroup>> Create(
      const Options& options, const Shared& shared,
      GroupController::Callbacks callbacks);
  // Stops.
  ~ReplicaGroup();

  // Begins. Workers may join from then on.
  void Start();
  // Launches the group, which is formed.
  void Launch(const FormedGroup& formed) { controller_->Launch(formed); }
  // Workers that leave from now on are no loss.
  void StopController() { controller_->Stop(); }
  // Requests that still run end. REQUIRES: nobody calls the engine any more.
  void StopEngine() { engine_->Stop(); }

  EngineLoop* engine() { return engine_.get(); }

 private:
  explicit ReplicaGroup(Clock* clock) : clock_(clock) {}

  // Whether the engine takes the group, which is launched; else its epoch is
  // over.
  bool AwaitEngine(Epoch group_epoch);

  Clock* const clock_;
  // Destroyed bottom up: who calls goes before who is called.
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<EngineLoop> engine_;
  std::unique_ptr<GroupLauncher> launcher_;
  std::unique_ptr<GroupController> controller_;
};

}  // namespace quire

#endif  // COORDINATOR_REPLICA_GROUP_H_
