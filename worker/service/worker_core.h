// SPDX-License-Identifier: Apache-2.0
//
// What the gRPC edge commands, without gRPC: the executor on its thread, and
// which command may follow which.
#ifndef WORKER_SERVICE_WORKER_CORE_H_
#define WORKER_SERVICE_WORKER_CORE_H_

#include <atomic>
#include <deque>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "worker/executor/executor.h"
#include "worker/executor/load_executor.h"
#include "worker/executor/task_thread.h"
#include "worker/service/command_guard.h"

namespace quire {

// Thread-safe. Commands return at once; their answers come on the executor's
// thread, those of steps perhaps on the one that waits for the device, in the
// order of the commands.
class WorkerCore {
 public:
  // Makes an executor; LoadExecutor, but for tests.
  using Loader = std::function<absl::StatusOr<std::unique_ptr<Executor>>(
      const LoadSpec& spec, const LoadObserver& observer)>;

  // `clock` must live longer. `on_device_lost` is called, on either of these
  // threads, after a command or a step failed because of the device and before
  // its answer: nothing but the process's end helps then. It may be null.
  explicit WorkerCore(
      const Clock* clock,
      std::function<void(const absl::Status& cause)> on_device_lost = nullptr);
  ~WorkerCore();

  // The coordinator may command as soon as it has answered the registration,
  // before that answer is here: what comes first waits for this.
  void Join(Epoch coordinator_epoch, Epoch group_epoch, int32_t rank,
            int32_t world_size, Loader loader);
  // In place of Join(), if the answer gave no seat: every command is refused,
  // those that wait included. REQUIRES: one of both, before the destructor.
  void Refuse();

  // FailedPrecondition: epochs are not this worker's, or the command is out of
  // order (Load, Profile, AllocateKv, then steps).
  void Load(Epoch coordinator_epoch, Epoch group_epoch, LoadSpec spec,
            LoadObserver observer, std::function<void(absl::Status)> done);
  void Profile(Epoch coordinator_epoch, Epoch group_epoch,
               double memory_utilization,
               std::function<void(absl::StatusOr<MemoryProfile>)> done);
  void AllocateKv(Epoch coordinator_epoch, Epoch group_epoch,
                  int32_t num_blocks, int32_t num_host_blocks,
                  std::function<void(absl::Status)> done);

  // Runs a plan that came at `received`. `plan` and `result` must live until
  // `done`, which is called in the order of steps. On an asynchronous backend a
  // step may begin before the one before has ended, of which `done` tells when
  // it has. Once a step has failed every later one does.
  void Step(const StepPlan* plan, absl::Time received, StepResult* result,
            std::function<void(absl::Status)> done);

  // The last step that the executor finished.
  StepId last_step() const { return StepId(last_step_.load()); }
  // Whether steps may come.
  bool is_ready() const { return is_ready_.load(); }

  // Drops waiting commands. Returns whether the running one ended in time.
  bool Stop(absl::Duration timeout) {
    return thread_.Stop(timeout) && waiter_.Stop(timeout);
  }

  const Clock& clock() const { return *clock_; }

 private:
  absl::Status CheckCommand(Epoch coordinator_epoch, Epoch group_epoch);
  absl::Status DoLoad(const LoadSpec& spec, const LoadObserver& observer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);
  absl::StatusOr<MemoryProfile> DoProfile(double memory_utilization)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);
  absl::Status DoAllocateKv(int32_t num_blocks, int32_t num_host_blocks)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);

  // A step that the executor has begun, or that failed to begin.
  struct BegunStep {
    StepId step_id;
    absl::Time received;
    StepResult* result;
    std::function<void(absl::Status)> done;
  };
  absl::Status BeginStep(const StepPlan& plan)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);
  // Ends the step that was begun first.
  void FinishStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);
  // ... and those before `step_id` and itself, if they have not ended.
  void FinishUpTo(StepId step_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);
  // No further step may run: `status` of `step_id` is why.
  absl::Status Break(StepId step_id, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(executor_mutex_);
  // `device` is OK, or why it is lost.
  void TellIfLost(const absl::Status& device);

  const Clock* const clock_;
  const std::function<void(const absl::Status&)> on_device_lost_;
  CommandGuard guard_;
  absl::Notification answered_;  // by Join() or Refuse()
  // Written before guard_ is told to join, read after it lets a command pass.
  int32_t rank_ = 0;
  int32_t world_size_ = 1;
  Loader loader_;

  std::atomic<uint64_t> last_step_ = 0;
  std::atomic<bool> is_ready_ = false;

  // Held while a command is carried out and a step begun, and while either is
  // answered. A command may come while a step runs, if only to be refused.
  absl::Mutex executor_mutex_;
  std::unique_ptr<Executor> executor_ ABSL_GUARDED_BY(executor_mutex_);
  // Why no further step may run.
  absl::Status broken_ ABSL_GUARDED_BY(executor_mutex_);
  std::deque<BegunStep> begun_ ABSL_GUARDED_BY(executor_mutex_);
  absl::Time last_finish_ ABSL_GUARDED_BY(executor_mutex_) =
      absl::InfinitePast();

  // Tasks use all of the above, and the first post to the second: both are
  // stopped before either goes. The second waits for steps to have run on the
  // device and ends them, so that meanwhile the first may begin the next.
  TaskThread thread_;
  TaskThread waiter_;
};

}  // namespace quire

#endif  // WORKER_SERVICE_WORKER_CORE_H_
