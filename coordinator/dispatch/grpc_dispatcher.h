// SPDX-License-Identifier: Apache-2.0
//
// The dispatcher whose workers are processes: one Run stream per rank. A plan
// is encoded once and queued on every rank's stream; answers are merged and
// handed on in step order.
#ifndef COORDINATOR_DISPATCH_GRPC_DISPATCHER_H_
#define COORDINATOR_DISPATCH_GRPC_DISPATCHER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/metrics/step_metrics.h"
#include "common/step_plan.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/dispatch/step_watchdog.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace quire {

class RunStream;

// Thread-safe; plans of an epoch come from one thread. The listener is called
// without a lock, one call at a time, in the order of events.
class GrpcDispatcher final : public Dispatcher {
 public:
  struct Rank {
    std::string address;  // for people
    std::shared_ptr<grpc::Channel> channel;
  };

  // `clock`, `listener` and `metrics` (may be null) must outlive this.
  GrpcDispatcher(const StepWatchdog::Options& watchdog, const Clock* clock,
                 DispatchListener* listener, StepMetrics* metrics);
  // Ends every stream and waits until gRPC is done with them.
  ~GrpcDispatcher() override;

  // Opens the ranks' Run streams and says OnGroupReady.
  // REQUIRES: the group is loaded and has no stream open.
  void Open(const GroupReady& group, std::vector<Rank> ranks,
            absl::Duration largest_step);

  void Send(const StepPlan& plan) override;

  // Ends an epoch: OnGroupLost follows if it was open and not over yet.
  void Close(Epoch group_epoch, const absl::Status& cause) override;

  bool is_reentrant() const override { return true; }

  // Ends the epoch of a group whose step takes too long. Call it regularly. The
  // listener hears of results from the threads that bring them, not from here,
  // so the caller is back soon however fast steps are.
  void CheckWatchdog();

 private:
  class Link;

  // Ends the epoch of `link`, and queues what the listener must hear of it.
  // False: it is over already.
  bool End(Link* link, const absl::Status& cause)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandleResult(Link* link, int32_t rank, StepResult result);
  void HandleStreamEnd(Link* link, int32_t rank, const absl::Status& status);
  // Calls the listener until no event is left; one thread at a time does. Every
  // thread that has queued an event calls this, so none stays behind.
  void DeliverEvents() ABSL_LOCKS_EXCLUDED(mutex_);

  const StepWatchdog::Options watchdog_options_;
  const Clock* const clock_;
  DispatchListener* const listener_;
  StepMetrics* const metrics_;

  absl::Mutex mutex_;
  // Every epoch whose streams gRPC still holds; at most the last one lives.
  std::vector<std::unique_ptr<Link>> links_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> events_ ABSL_GUARDED_BY(mutex_);
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_GRPC_DISPATCHER_H_
