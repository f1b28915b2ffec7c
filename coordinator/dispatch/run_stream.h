// SPDX-License-Identifier: Apache-2.0
//
// The Run stream to one rank: plans out in order, one write at a time; results
// in until it breaks.
#ifndef COORDINATOR_DISPATCH_RUN_STREAM_H_
#define COORDINATOR_DISPATCH_RUN_STREAM_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <cstdint>
#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/step_plan.h"
#include "proto/worker.grpc.pb.h"

namespace quire {

// Hears of one stream. Called from gRPC's threads, one call at a time per
// stream, never under the stream's lock.
class RunStreamListener {
 public:
  virtual ~RunStreamListener() = default;
  virtual void OnResult(int32_t rank, StepResult result) = 0;
  // Last call. OK only if the worker ended the stream by itself.
  virtual void OnStreamEnd(int32_t rank, const absl::Status& status) = 0;
};

// Thread-safe. Shared by gRPC, until the stream's end, and by who sends.
class RunStream final
    : public grpc::ClientBidiReactor<v1::StepPlan, v1::StepResult> {
 public:
  // Opens the stream; `listener` must outlive its OnStreamEnd.
  static std::shared_ptr<RunStream> Open(
      const std::shared_ptr<grpc::Channel>& channel, int32_t rank,
      RunStreamListener* listener);

  // Queues a plan; dropped once the stream has ended. All ranks share it.
  void Send(std::shared_ptr<const v1::StepPlan> plan);

  // Asks for the end; OnStreamEnd follows.
  void Cancel();

 private:
  RunStream(const std::shared_ptr<grpc::Channel>& channel, int32_t rank,
            RunStreamListener* listener);

  void OnWriteDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  void StartNextWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int32_t rank_;
  RunStreamListener* const listener_;
  std::unique_ptr<v1::Worker::Stub> stub_;
  std::shared_ptr<RunStream> self_;  // gRPC's share; dropped in OnDone
  v1::StepResult received_;          // the read in flight

  absl::Mutex mutex_;
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Not yet written; the front one is being written if `writing_`.
  std::deque<std::shared_ptr<const v1::StepPlan>> queue_
      ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_RUN_STREAM_H_
