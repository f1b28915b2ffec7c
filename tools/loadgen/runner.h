// SPDX-License-Identifier: Apache-2.0
//
// Sends the requests of a run at their times.
#ifndef TOOLS_LOADGEN_RUNNER_H_
#define TOOLS_LOADGEN_RUNNER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "tools/cli/progress.h"
#include "tools/loadgen/client.h"
#include "tools/loadgen/request_record.h"

namespace quire {

// A call and when it is due after the run's start.
struct PlannedCall {
  absl::Duration arrival;
  LoadCall call;
};

struct RunResult {
  std::vector<RequestRecord> records;  // of the requests sent, by idx
  absl::Time start;
  absl::Time end;
  bool is_interrupted = false;
};

// Open loop: a request is due at its time whether or not earlier ones have
// ended. With a limit of concurrency it then waits for its turn; that wait is
// in its record (arrival to sent) and outside its latencies.
//
// Run is called once. Interrupt is thread-safe.
class LoadRunner {
 public:
  // Borrows everything; `progress` may be null.
  LoadRunner(LoadClient* client, Clock* clock, Progress* progress);

  // Returns when every request has ended. `max_concurrency` 0: no limit.
  // REQUIRES: `calls` are in the order of their arrivals.
  RunResult Run(std::vector<PlannedCall> calls, int64_t max_concurrency);

  // Sends no more requests and gives up those in flight.
  void Interrupt();

 private:
  // Waits until `condition`, `deadline` or an interrupt, keeping the progress
  // bar alive.
  void Wait(const absl::Condition& condition, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ShowProgress(int64_t num_done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Done(RequestRecord record);

  LoadClient* const client_;
  Clock* const clock_;
  Progress* const progress_;

  absl::Mutex mutex_;
  bool is_interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t num_planned_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t max_concurrency_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_failed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<RequestRecord> records_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_RUNNER_H_
