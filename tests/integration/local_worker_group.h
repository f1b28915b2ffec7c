// SPDX-License-Identifier: Apache-2.0
//
// A tensor-parallel worker group inside one process: real executors, a thread
// each, without sockets. What is left of a cluster when only its arithmetic is
// of interest.
#ifndef TESTS_INTEGRATION_LOCAL_WORKER_GROUP_H_
#define TESTS_INTEGRATION_LOCAL_WORKER_GROUP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/dispatch/step_merger.h"
#include "kernels/dtype.h"
#include "worker/collective/local.h"
#include "worker/executor/executor.h"
#include "worker/executor/task_thread.h"

namespace quire {

struct LocalWorkerGroupOptions {
  std::string model;  // a Hugging Face folder
  DType dtype = DType::kBf16;
  int32_t tensor_parallel_size = 1;
  StepLimits limits;
  int32_t block_size = 16;  // tokens
  int32_t num_blocks = 0;
  int32_t num_host_blocks = 0;
  int64_t virtual_page_bytes = 0;  // see ExecutorParts
};

// Thread-safe. Calls the listener on executor threads.
class LocalWorkerGroup final : public Dispatcher {
 public:
  // Loads the model on every rank. `listener` and `clock` outlive the group.
  static absl::StatusOr<std::unique_ptr<LocalWorkerGroup>> Create(
      const LocalWorkerGroupOptions& options, DispatchListener* listener,
      const Clock* clock);

  // Waits for the steps that were sent.
  ~LocalWorkerGroup() override;

  // What OnGroupReady is to be told.
  GroupReady ready() const;

  void Send(const StepPlan& plan) override;

 private:
  LocalWorkerGroup(const LocalWorkerGroupOptions& options,
                   DispatchListener* listener);

  absl::StatusOr<std::unique_ptr<Executor>> LoadRank(int32_t rank,
                                                     const Clock* clock);
  void Run(int32_t rank, const StepPlan& plan);

  const LocalWorkerGroupOptions options_;
  DispatchListener* const listener_;
  LocalGroup collectives_;
  std::vector<std::unique_ptr<Executor>> executors_;  // by rank

  absl::Mutex mutex_;
  StepMerger merger_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::unique_ptr<TaskThread>> threads_;  // by rank; end first
};

}  // namespace quire

#endif  // TESTS_INTEGRATION_LOCAL_WORKER_GROUP_H_
