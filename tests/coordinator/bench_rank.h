// SPDX-License-Identifier: Apache-2.0
//
// What a rank of the benches is made of: it takes plans and keeps tables as a
// worker does, but computes nothing. How long a step takes is the bench's.
#ifndef TESTS_COORDINATOR_BENCH_RANK_H_
#define TESTS_COORDINATOR_BENCH_RANK_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "proto/worker.grpc.pb.h"
#include "worker/batch/slot_state.h"

namespace quire {

struct ArrivedPlan {
  StepPlan plan;
  absl::Time time;
};

// The plans of a Run stream. They are read on a thread of their own, so that
// those which come while a step is under way have the time at which they came,
// and do not make the next step late. Thread-safe.
class PlanInbox {
 public:
  using Stream = grpc::ServerReaderWriter<v1::StepResult, v1::StepPlan>;

  // Reads from now on. `stream` is borrowed.
  explicit PlanInbox(Stream* stream);
  // Waits for the end of what the stream's other side writes.
  ~PlanInbox();

  // Waits for a plan. False: there is none, and will be none.
  bool Take(ArrivedPlan* arrived) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void ReadAll(Stream* stream) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  bool is_over_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<ArrivedPlan> plans_ ABSL_GUARDED_BY(mutex_);
  std::thread reader_;
};

// Thread-compatible.
class BenchRank {
 public:
  explicit BenchRank(const SlotLimits& limits) : slots_(limits) {}

  // The result of a step whose tokens are `draw`n, but for its time. REQUIRES:
  // plans come in their order.
  StepResult Answer(const StepPlan& plan, absl::FunctionRef<TokenId()> draw);

 private:
  SlotStates slots_;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_BENCH_RANK_H_
