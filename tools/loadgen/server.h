// SPDX-License-Identifier: Apache-2.0
//
// What a load run asks of the server besides generating.
#ifndef TOOLS_LOADGEN_SERVER_H_
#define TOOLS_LOADGEN_SERVER_H_

#include <memory>
#include <ostream>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "proto/inference.pb.h"
#include "tools/cli/rpc.h"

namespace quire {

// Thread-compatible, except for Interrupt.
class LoadTarget {
 public:
  // Borrows `clock`.
  LoadTarget(std::string target, Clock* clock);

  // Waits until Generate would be accepted. Unavailable, in one line with the
  // remedy, after `timeout`; Cancelled after Interrupt. A wait that people
  // could notice is told on `err`, if there is one, once.
  absl::Status AwaitReady(absl::Duration timeout, std::ostream* err = nullptr);

  // The model named `name`, or the first if it is empty. NotFound lists those
  // that there are.
  absl::StatusOr<v1::Model> FindModel(const std::string& name);

  // Waits until no request runs or waits, then compares blocks: "Blocks after
  // the run: 120 free + 8 cached == 128". DataLoss if some are missing,
  // DeadlineExceeded if requests still run after `timeout`.
  absl::StatusOr<std::string> CheckBlocks(absl::Duration timeout);

  // Ends waits. Thread-safe.
  void Interrupt();

 private:
  absl::Status NotReady(absl::Duration timeout) const;
  // Lets a little time pass. False if interrupted.
  bool Pause();

  const std::string target_;
  Clock* const clock_;
  const std::shared_ptr<grpc::Channel> channel_;
  absl::Mutex mutex_;
  bool is_interrupted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_SERVER_H_
