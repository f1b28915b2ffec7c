// SPDX-License-Identifier: Apache-2.0
#include "coordinator/replica_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

// The engine's thread has only to wake up.
constexpr absl::Duration kEngineReadyTimeout = absl::Seconds(5);

void LogPool(const ReplicaGroup::Options& options, const GroupReady& ready) {
  const int64_t num_tokens =
      int64_t{ready.num_blocks} *
      (ready.block_size > 0 ? ready.block_size : options.engine.block_size);
  const int64_t request_tokens = std::min(4096, options.engine.max_model_len);
  LOG(INFO) << "group " << options.controller.group << ": " << ready.num_blocks
            << " blocks, " << num_tokens << " tokens; "
            << num_tokens / request_tokens << " requests of " << request_tokens
            << " tokens at once";
}

}  // namespace

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
  callbacks.on_ready =
      [options, group = group.get(),
       tell = std::move(callbacks.on_ready)](const LaunchedGroup& launched) {
        LogPool(options, launched.ready);
        if (!group->AwaitEngine(launched.ready.group_epoch)) return;
        if (tell != nullptr) tell(launched);
      };
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

bool ReplicaGroup::AwaitEngine(Epoch group_epoch) {
  // The engine hears of the group on its own thread; until then it would
  // refuse the first request of whoever is told now.
  if (engine_->AwaitReady(clock_->Now() + kEngineReadyTimeout, group_epoch)) {
    return true;
  }
  // No effect if the group is lost, or was refused.
  controller_->dispatcher()->Close(
      group_epoch, absl::UnavailableError(absl::StrCat(
                       "the engine did not take the group within ",
                       absl::FormatDuration(kEngineReadyTimeout),
                       "; the coordinator's machine may be overloaded")));
  return false;
}

}  // namespace quire
