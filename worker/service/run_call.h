// SPDX-License-Identifier: Apache-2.0
//
// One Run stream: plans in, results out, in order.
#ifndef WORKER_SERVICE_RUN_CALL_H_
#define WORKER_SERVICE_RUN_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/step_plan.h"
#include "proto/worker.pb.h"
#include "worker/service/worker_core.h"

namespace quire {

// Thread-safe. Owned by gRPC, until the stream's end, and by the steps that it
// has given to the executor.
class RunCall final
    : public grpc::ServerBidiReactor<v1::StepPlan, v1::StepResult>,
      public std::enable_shared_from_this<RunCall> {
 public:
  // `on_end` is called once, when the stream takes no more plans.
  static RunCall* Start(WorkerCore* core, std::function<void()> on_end);

  // Use Start().
  RunCall(WorkerCore* core, std::function<void()> on_end);

 private:
  // A coordinator that runs ahead by two has at most three plans here.
  static constexpr int kMaxPlans = 4;

  // A plan on its way through; reused.
  struct Work {
    StepPlan plan;
    absl::Time received;
    StepResult result;
    v1::StepResult message;
  };

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void OnStepDone(Work* work, const absl::Status& status);
  void ReadNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the stream with `status`, after the results that wait.
  void End(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MaybeFinish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  WorkerCore* const core_;
  const std::function<void()> on_end_;
  std::shared_ptr<RunCall> self_;  // gRPC's share; dropped in OnDone
  std::array<Work, kMaxPlans> works_;
  v1::StepPlan incoming_;  // the read in flight

  absl::Mutex mutex_;
  std::vector<Work*> free_ ABSL_GUARDED_BY(mutex_);
  std::deque<Work*> to_write_ ABSL_GUARDED_BY(mutex_);  // front: in flight
  int num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool client_closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // WORKER_SERVICE_RUN_CALL_H_
