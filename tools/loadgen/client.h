// SPDX-License-Identifier: Apache-2.0
//
// Any number of Generate streams at once, without a thread for each.
#ifndef TOOLS_LOADGEN_CLIENT_H_
#define TOOLS_LOADGEN_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "proto/inference.pb.h"
#include "tools/loadgen/request_record.h"

namespace quire {

// When and how a client gives a request up.
struct CancelPlan {
  int64_t after_tokens = 0;  // 0: as soon as it is sent
  bool by_call = false;      // by Inference.Cancel instead of by leaving
};

struct LoadCall {
  int64_t idx = 0;
  absl::Time arrival;
  absl::Duration timeout = absl::InfiniteDuration();
  v1::GenerateRequest request;
  std::optional<CancelPlan> cancel;
};

// Thread-safe.
class LoadClient {
 public:
  using DoneCallback = std::function<void(RequestRecord record)>;

  // Spreads the calls over `num_channels` connections. Borrows `clock`.
  LoadClient(const std::string& target, int64_t num_channels,
             const Clock* clock);
  // Waits for every call's end.
  ~LoadClient();

  // Opens all connections, so that no request's time holds that; whether they
  // are open. What is not is opened by its first request.
  bool Connect(absl::Duration timeout);

  // Sends a request. `on_done` is called once, on a gRPC thread, and must not
  // block.
  void Start(LoadCall call, DoneCallback on_done);

  // Gives up all calls in flight.
  void CancelAll();

 private:
  class Call;
  struct Stubs;

  // `call` is about to be deleted, and then is.
  void Forget(Call* call);
  void CallGone();

  const Clock* const clock_;
  const std::unique_ptr<Stubs> stubs_;
  absl::Mutex mutex_;
  std::unordered_set<Call*> calls_ ABSL_GUARDED_BY(mutex_);
  int64_t num_calls_ ABSL_GUARDED_BY(mutex_) = 0;  // not yet deleted
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_CLIENT_H_
