// SPDX-License-Identifier: Apache-2.0
//
// One Load call: progress out until the model is there.
#ifndef WORKER_SERVICE_LOAD_CALL_H_
#define WORKER_SERVICE_LOAD_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "proto/worker.pb.h"
#include "worker/service/worker_core.h"

namespace quire {

// Thread-safe. Owned by gRPC, until the call's end, and by the load.
class LoadCall final : public grpc::ServerWriteReactor<v1::LoadProgress>,
                       public std::enable_shared_from_this<LoadCall> {
 public:
  static LoadCall* Start(WorkerCore* core, const v1::LoadRequest& request);

  // Use Start().
  LoadCall() = default;

 private:
  void OnWriteDone(bool ok) override;
  void OnDone() override { self_.reset(); }

  // A message that waits is overtaken by a later one of its phase.
  void Show(const std::string& phase, int64_t bytes_done, int64_t bytes_total);
  void End(const absl::Status& status);
  void Proceed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::shared_ptr<LoadCall> self_;  // gRPC's share; dropped in OnDone

  absl::Mutex mutex_;
  std::deque<v1::LoadProgress> to_write_ ABSL_GUARDED_BY(mutex_);
  v1::LoadProgress writing_;  // the write in flight
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_heard_ ABSL_GUARDED_BY(mutex_) = true;
  uint64_t bytes_total_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // WORKER_SERVICE_LOAD_CALL_H_
