// SPDX-License-Identifier: Apache-2.0
//
// A worker group inside this process: the workers' own cores, a thread each,
// without their RPC. Plans are handed over by value.
#ifndef TOOLS_EMBEDDED_EMBEDDED_GROUP_H_
#define TOOLS_EMBEDDED_EMBEDDED_GROUP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/dispatch/step_merger.h"
#include "tools/embedded/key_table.h"
#include "worker/executor/load_executor.h"
#include "worker/service/worker_core.h"

namespace quire {

struct EmbeddedGroupOptions {
  DeviceOptions device;
  LoadSpec load;  // the rank apart
  double memory_utilization = 0.9;
  int32_t num_blocks_override = 0;  // 0: what the memory holds
  int64_t swap_space_bytes = 0;     // of host memory, of each rank
};

// Thread-safe. Calls the listener on the workers' threads.
class EmbeddedGroup final : public Dispatcher {
 public:
  // Hears of loading, from the ranks' threads.
  using LoadListener =
      std::function<void(int32_t rank, const char* phase, int64_t bytes_done,
                         int64_t bytes_total)>;

  // Loads, measures and allocates on every rank, as a coordinator would have
  // it. Errors are LoadExecutor's, ResourceExhausted if no memory is left, or
  // Unimplemented for several ranks on GPUs, which need a process each.
  // `clock` and `listener` outlive the group.
  static absl::StatusOr<std::unique_ptr<EmbeddedGroup>> Create(
      const EmbeddedGroupOptions& options, const LoadListener& on_load,
      DispatchListener* listener, const Clock* clock);

  // Waits for the steps that were sent. REQUIRES: nobody sends any more.
  ~EmbeddedGroup() override;

  // What OnGroupReady is to be told.
  const GroupReady& ready() const { return ready_; }

  void Send(const StepPlan& plan) override;

 private:
  EmbeddedGroup(int32_t world_size, DispatchListener* listener,
                const Clock* clock);

  absl::Status Load(const EmbeddedGroupOptions& options,
                    const LoadListener& on_load);
  absl::Status Allocate(const EmbeddedGroupOptions& options);
  void OnStep(int32_t rank, const absl::Status& status, StepResult result);

  const int32_t world_size_;
  DispatchListener* const listener_;
  const Clock* const clock_;
  GroupReady ready_;
  KeyTable board_;

  absl::Mutex mutex_;
  StepMerger merger_ ABSL_GUARDED_BY(mutex_);
  int64_t num_running_ ABSL_GUARDED_BY(mutex_) = 0;  // steps of all ranks
  bool is_lost_ ABSL_GUARDED_BY(mutex_) = false;

  std::vector<std::unique_ptr<WorkerCore>> workers_;  // by rank; end first
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_EMBEDDED_GROUP_H_
