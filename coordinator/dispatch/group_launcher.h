// SPDX-License-Identifier: Apache-2.0
//
// Takes a formed group from "everybody has joined" to "ready for its first
// step": Load on all ranks at once, Profile, then a KV cache of the size that
// the poorest rank can hold.
#ifndef COORDINATOR_DISPATCH_GROUP_LAUNCHER_H_
#define COORDINATOR_DISPATCH_GROUP_LAUNCHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/dispatch/grpc_dispatcher.h"
#include "coordinator/dispatch/link_report.h"

namespace grpc {
class ClientContext;
}  // namespace grpc

namespace quire {

// What every rank is told; names are those of the flags.
struct LaunchOptions {
  std::string model_path;
  std::string dtype = "auto";
  std::string load_format = "safetensors";
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;
  int32_t max_model_len = 0;
  int32_t block_size = 0;
  uint64_t seed = 0;                // of dummy weights
  double memory_utilization = 0.9;  // (0, 1]
  int32_t num_blocks_override = 0;  // 0: what the memory holds
  int64_t swap_space_bytes = 0;     // of host memory, of each rank
  // 0: blocks of block_size. Else rows of virtual memory, with pages of so
  // many bytes behind them.
  int64_t virtual_page_bytes = 0;
  int32_t sparse_pages = 0;  // that a decode reads; 0: all
  // Of a worker's silence, which its connection bears at least.
  absl::Duration heartbeat_timeout = absl::Seconds(3);
};

struct LaunchedGroup {
  GroupReady ready;
  std::vector<GrpcDispatcher::Rank> ranks;
  absl::Duration largest_step;  // the slowest rank's
  uint64_t weight_bytes = 0;    // of all ranks
  uint64_t kv_bytes = 0;        // allocated, of all ranks
};

// Of memory for blocks that several groups may have.
struct MemoryShare {
  int32_t num_groups = 1;  // on the same devices, this one included
  // Blocks that one of them was given; 0: none was yet. What they hold by now
  // is not in what a rank measures.
  int32_t num_known_blocks = 0;
};

// Hears how a launch goes. Called from the launch's threads.
struct LaunchObserver {
  std::function<void(int32_t rank, const std::string& phase,
                     uint64_t bytes_done, uint64_t bytes_total)>
      on_load;
  std::function<void()> on_warming;  // every rank is loaded
  std::function<void(int32_t rank, const LinkReport& links)> on_links;
};

// Thread-safe; one launch at a time.
class GroupLauncher {
 public:
  explicit GroupLauncher(const LaunchOptions& options) : options_(options) {}

  // Blocks, for minutes with a large model. `addresses` are by rank. The first
  // rank to fail ends the launch for all; its status says which it was:
  // InvalidArgument, NotFound, DataLoss, ResourceExhausted, FailedPrecondition
  // or Unavailable, as proto/worker.proto says; or what ended the epoch, or
  // all. A group gets as many blocks as are known, or else an equal part of
  // what is measured; at most what is measured.
  absl::StatusOr<LaunchedGroup> Launch(
      const std::vector<std::string>& addresses, Epoch coordinator_epoch,
      Epoch group_epoch, const LaunchObserver& observer,
      const MemoryShare& share = {});

  // Ends the launch in progress and every later one.
  void Cancel(const absl::Status& cause);
  // Ends the launch of this epoch, in progress or to come. Earlier ones are
  // over, too.
  void EndEpoch(Epoch group_epoch, const absl::Status& cause);

 private:
  class Calls;
  class RankLaunch;

  absl::Status RunParts(const std::vector<std::unique_ptr<RankLaunch>>& ranks,
                        Calls* calls, const LaunchObserver& observer,
                        const MemoryShare& share, LaunchedGroup* group);
  // Host blocks, and how fast ranks swap and compute.
  void MeasurePreemption(const std::vector<std::unique_ptr<RankLaunch>>& ranks,
                         GroupReady* ready);

  const LaunchOptions options_;
  absl::Mutex mutex_;
  absl::Status cancelled_ ABSL_GUARDED_BY(mutex_);  // of every launch
  // The last that is over, and why.
  Epoch over_epoch_ ABSL_GUARDED_BY(mutex_);
  absl::Status over_cause_ ABSL_GUARDED_BY(mutex_);
  Calls* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
  Epoch current_epoch_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_GROUP_LAUNCHER_H_
