// SPDX-License-Identifier: Apache-2.0
#include "worker/service/worker_core.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/executor/lost_device.h"

namespace quire {

WorkerCore::WorkerCore(
    const Clock* clock,
    std::function<void(const absl::Status& cause)> on_device_lost)
    : clock_(clock),
      on_device_lost_(std::move(on_device_lost)),
      thread_("quire-executor"),
      waiter_("quire-waiter") {}

WorkerCore::~WorkerCore() { Stop(absl::InfiniteDuration()); }

void WorkerCore::Join(Epoch coordinator_epoch, Epoch group_epoch, int32_t rank,
                      int32_t world_size, Loader loader) {
  rank_ = rank;
  world_size_ = world_size;
  loader_ = std::move(loader);
  guard_.Join(coordinator_epoch, group_epoch);  // lets commands see the above
  answered_.Notify();
}

void WorkerCore::Refuse() { answered_.Notify(); }

absl::Status WorkerCore::CheckCommand(Epoch coordinator_epoch,
                                      Epoch group_epoch) {
  answered_.WaitForNotification();
  return guard_.CheckEpochs(coordinator_epoch, group_epoch);
}

void WorkerCore::Load(Epoch coordinator_epoch, Epoch group_epoch, LoadSpec spec,
                      LoadObserver observer,
                      std::function<void(absl::Status)> done) {
  thread_.Post([=, this] {
    absl::Status status = CheckCommand(coordinator_epoch, group_epoch);
    absl::MutexLock lock(&executor_mutex_);
    if (status.ok()) status = DoLoad(spec, observer);
    if (executor_ == nullptr) TellIfLost(LostDevice(status));
    done(status);
  });
}

absl::Status WorkerCore::DoLoad(const LoadSpec& spec,
                                const LoadObserver& observer) {
  if (executor_ != nullptr) {
    return absl::FailedPreconditionError("a model is loaded already");
  }
  if (spec.rank != rank_ || spec.world_size != world_size_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "this worker registered as rank ", rank_, " of ", world_size_, ", not ",
        spec.rank, " of ", spec.world_size));
  }
  QUIRE_ASSIGN_OR_RETURN(executor_, loader_(spec, observer));
  return absl::OkStatus();
}

void WorkerCore::Profile(
    Epoch coordinator_epoch, Epoch group_epoch, double memory_utilization,
    std::function<void(absl::StatusOr<MemoryProfile>)> done) {
  thread_.Post([=, this] {
    const absl::Status status = CheckCommand(coordinator_epoch, group_epoch);
    absl::MutexLock lock(&executor_mutex_);
    done(status.ok() ? DoProfile(memory_utilization) : status);
  });
}

absl::StatusOr<MemoryProfile> WorkerCore::DoProfile(double memory_utilization) {
  if (executor_ == nullptr) {
    return absl::FailedPreconditionError("no model is loaded");
  }
  if (!(memory_utilization > 0 && memory_utilization <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "memory_utilization ", memory_utilization, " is not in (0, 1]"));
  }
  if (executor_->has_kv()) {
    return absl::FailedPreconditionError(
        "the KV cache has the memory already that would be measured");
  }
  auto measured = executor_->Profile(memory_utilization);
  if (!measured.ok()) TellIfLost(executor_->CheckDevice());
  return measured;
}

void WorkerCore::AllocateKv(Epoch coordinator_epoch, Epoch group_epoch,
                            int32_t num_blocks, int32_t num_host_blocks,
                            std::function<void(absl::Status)> done) {
  thread_.Post([=, this] {
    const absl::Status status = CheckCommand(coordinator_epoch, group_epoch);
    absl::MutexLock lock(&executor_mutex_);
    done(status.ok() ? DoAllocateKv(num_blocks, num_host_blocks) : status);
  });
}

absl::Status WorkerCore::DoAllocateKv(int32_t num_blocks,
                                      int32_t num_host_blocks) {
  if (executor_ == nullptr) {
    return absl::FailedPreconditionError("no model is loaded");
  }
  const absl::Status status =
      executor_->AllocateKv(num_blocks, num_host_blocks);
  if (!status.ok()) TellIfLost(executor_->CheckDevice());
  is_ready_ = is_ready_ || status.ok();
  return status;
}

void WorkerCore::Step(const StepPlan* plan, absl::Time received,
                      StepResult* result,
                      std::function<void(absl::Status)> done) {
  thread_.Post([=, this, done = std::move(done)]() mutable {
    absl::MutexLock lock(&executor_mutex_);
    if (const absl::Status status = BeginStep(*plan); !status.ok()) {
      while (!begun_.empty()) FinishStep();  // the results before it
      done(status);
      return;
    }
    const StepId step_id = plan->identity.step_id;
    begun_.push_back({step_id, received, result, std::move(done)});
    if (!executor_->is_asynchronous()) {
      FinishStep();
      return;
    }
    waiter_.Post([this, step_id, wait = executor_->Waiter()] {
      wait().IgnoreError();  // FinishStep() meets it, too
      absl::MutexLock lock(&executor_mutex_);
      FinishUpTo(step_id);
    });
  });
}

absl::Status WorkerCore::Break(StepId step_id, const absl::Status& status) {
  broken_ = absl::Status(status.code(), absl::StrCat("step ", step_id.value(),
                                                     ": ", status.message()));
  TellIfLost(executor_->CheckDevice());
  return broken_;
}

void WorkerCore::TellIfLost(const absl::Status& device) {
  if (!device.ok() && on_device_lost_ != nullptr) on_device_lost_(device);
}

absl::Status WorkerCore::BeginStep(const StepPlan& plan) {
  QUIRE_RETURN_IF_ERROR(broken_);
  if (!is_ready()) {
    return absl::FailedPreconditionError("no KV cache is allocated");
  }
  QUIRE_RETURN_IF_ERROR(guard_.AcceptStep(plan.identity));
  while (!begun_.empty() && !executor_->MayBegin(plan)) FinishStep();
  QUIRE_RETURN_IF_ERROR(broken_);
  const absl::Status status = executor_->Begin(plan);
  if (status.ok()) return status;
  while (!begun_.empty()) FinishStep();
  return broken_.ok() ? Break(plan.identity.step_id, status) : broken_;
}

void WorkerCore::FinishStep() {
  BegunStep step = std::move(begun_.front());
  begun_.pop_front();
  absl::Status status = executor_->Finish(step.result);
  if (!broken_.ok()) {
    status = broken_;  // of a step that came before
  } else if (!status.ok()) {
    status = Break(step.step_id, status);
  } else {
    last_step_ = step.step_id.value();
    const absl::Time now = clock_->Now();
    const absl::Time start = std::max(step.received, last_finish_);
    last_finish_ = now;
    step.result->step_us = static_cast<int32_t>(
        std::clamp<int64_t>(absl::ToInt64Microseconds(now - start), 0,
                            std::numeric_limits<int32_t>::max()));
  }
  step.done(status);
}

void WorkerCore::FinishUpTo(StepId step_id) {
  while (!begun_.empty() && begun_.front().step_id <= step_id) FinishStep();
}

}  // namespace quire
