// SPDX-License-Identifier: Apache-2.0
#include "coordinator/replica_group.h"

#include <utility>

#include "common/status_macros.h"

namespace quire {

absl::StatusOr<std::unique_ptr<ReplicaGroup>> ReplicaGroup::Create(
    const Options& options, const Shared& shared,
    GroupController::Callbacks callbacks) {
  std::unique_ptr<ReplicaGroup> group(new ReplicaGroup(shared.clock));
  QUIRE_ASSIGN_OR_RETURN(group->engine_,
                         EngineLoop::Create(options.engine, shared.listener,
                                            shared.clock, options.seat));
  if (!options.record.empty()) {
    QUIRE_ASSIGN_OR_RETURN(group->recorder_,
                           Recorder::Open(options.record, options.engine));
    group->engine_->Observe(group->recorder_.get());
  }
  group->launcher_ = std::make_unique<GroupLauncher>(options.launch);
  group->controller_ = std::make_unique<GroupController>(
      options.controller, std::move(callbacks), shared.registry, shared.board,
      group->launcher_.get(), shared.clock, shared.metrics);
  return group;
}

ReplicaGroup::~ReplicaGroup() {
  // What Create did not come to is not there.
  if (controller_ != nullptr) StopController();
  if (engine_ != nullptr) StopEngine();
}

void ReplicaGroup::Start() {
  engine_->Start(controller_->dispatcher());
  controller_->Start(engine_.get(), clock_);
}

}  // namespace quire
