// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/group_controller.h"

#include <utility>

#include "glog/logging.h"

namespace quire {
namespace {

// A tenth of the shortest limit that it watches for.
constexpr absl::Duration kLivenessPeriod = absl::Milliseconds(100);

}  // namespace

GroupController::GroupController(const Options& options, Callbacks callbacks,
                                 WorkerRegistry* registry,
                                 RendezvousBoard* board,
                                 GroupLauncher* launcher, const Clock* clock,
                                 StepMetrics* metrics)
    : options_(options),
      callbacks_(std::move(callbacks)),
      registry_(registry),
      board_(board),
      launcher_(launcher),
      dispatcher_(options.watchdog, clock, this, metrics) {}

GroupController::~GroupController() { Stop(); }

void GroupController::Start(DispatchListener* engine, Clock* clock) {
  engine_ = engine;
  launch_thread_ = std::thread([this] { RunLaunches(); });
  liveness_thread_ = std::thread([this, clock] { WatchLiveness(clock); });
}

void GroupController::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  launcher_->Cancel(absl::CancelledError("the coordinator is stopping"));
  if (launch_thread_.joinable()) launch_thread_.join();
  if (liveness_thread_.joinable()) liveness_thread_.join();
}

void GroupController::Launch(const FormedGroup& group) {
  absl::MutexLock lock(&mutex_);
  formed_.push_back(group);
}

void GroupController::RunLaunches() {
  while (true) {
    FormedGroup group;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(
          +[](GroupController* self)
               ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
                 return self->stopping_ || !self->formed_.empty();
               },
          this));
      if (stopping_) return;
      group = std::move(formed_.front());
      formed_.pop_front();
    }
    LaunchNow(group);
  }
}

void GroupController::LaunchNow(const FormedGroup& group) {
  LaunchObserver observer;
  observer.on_load = [&](int32_t rank, const std::string& phase,
                         uint64_t bytes_done, uint64_t bytes_total) {
    const LoadProgress progress{phase, bytes_done, bytes_total};
    registry_->SetLoadProgress(group.group, group.group_epoch, rank, progress);
    if (callbacks_.on_load != nullptr) callbacks_.on_load(rank, progress);
  };
  observer.on_warming = [&] {
    registry_->SetState(group.group, group.group_epoch, GroupState::kWarming);
  };
  observer.on_links = [&](int32_t rank, const LinkReport& links) {
    registry_->SetLinks(group.group, group.group_epoch, rank, links);
  };
  // Every GPU is one rank's; a machine's memory may be all groups'.
  const bool shares = group.device == "cpu" && options_.num_groups > 1;
  MemoryShare share;
  if (shares) {
    share.num_groups = options_.num_groups;
    if (options_.pools != nullptr) {
      share.num_known_blocks = options_.pools->Find(group.addresses);
    }
  }
  absl::StatusOr<LaunchedGroup> launched =
      launcher_->Launch(group.addresses, registry_->coordinator_epoch(),
                        group.group_epoch, observer, share);
  if (!launched.ok()) {
    EndEpoch(group.group_epoch, launched.status());
    return;
  }
  if (shares && options_.pools != nullptr) {
    options_.pools->Note(group.addresses, launched->ready.num_blocks);
  }
  if (!registry_->CheckEpoch(group.group, group.group_epoch).ok()) return;
  {
    absl::MutexLock lock(&mutex_);
    ready_epoch_ = group.group_epoch;
  }
  registry_->SetState(group.group, group.group_epoch, GroupState::kReady);
  dispatcher_.Open(launched->ready, launched->ranks, launched->largest_step);
  // A rank may have fallen silent since the check above, before there was
  // anything to close.
  const absl::Status alive =
      registry_->CheckEpoch(group.group, group.group_epoch);
  if (!alive.ok()) {
    dispatcher_.Close(group.group_epoch, alive);
    return;
  }
  if (callbacks_.on_ready != nullptr) callbacks_.on_ready(*launched);
}

void GroupController::WatchLiveness(Clock* clock) {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (clock->AwaitUntil(&mutex_, absl::Condition(&stopping_),
                            clock->Now() + kLivenessPeriod)) {
        return;
      }
    }
    if (const auto loss = registry_->Tick(options_.group)) {
      EndEpoch(loss->group_epoch, loss->cause);
    }
    dispatcher_.CheckWatchdog();
    for (const DismissedWorker& worker :
         registry_->TakeDismissed(options_.group)) {
      if (callbacks_.on_dismissed != nullptr) callbacks_.on_dismissed(worker);
    }
  }
}

void GroupController::OnGroupReady(const GroupReady& group) {
  engine_->OnGroupReady(group);
}

void GroupController::OnStepResult(StepResult result) {
  engine_->OnStepResult(std::move(result));
}

void GroupController::OnGroupLost(Epoch group_epoch,
                                  const absl::Status& cause) {
  engine_->OnGroupLost(group_epoch, cause);
  EndEpoch(group_epoch, cause);
}

void GroupController::EndEpoch(Epoch group_epoch, const absl::Status& cause) {
  const int32_t group = options_.group;
  bool was_ready;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_ || group_epoch <= lost_epoch_) return;
    lost_epoch_ = group_epoch;
    was_ready = ready_epoch_ == group_epoch;
  }
  LOG(ERROR) << "group " << group << " ends epoch " << group_epoch << ": "
             << cause.message();
  registry_->EndEpoch(group, group_epoch, cause);
  board_->EndEpoch(group, group_epoch);
  launcher_->EndEpoch(group_epoch, cause);
  dispatcher_.Close(group_epoch, cause);
  // Whoever hears of losses does so before a next epoch may begin.
  if (callbacks_.on_lost != nullptr) callbacks_.on_lost(cause, was_ready);
  if (options_.reform) registry_->Reform(group);
}

}  // namespace quire
