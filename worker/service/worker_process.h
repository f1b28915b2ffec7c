// SPDX-License-Identifier: Apache-2.0
//
// A worker's process from its command line to its end: it joins a coordinator,
// obeys, and goes when it is told to or when what it needs is lost.
#ifndef WORKER_SERVICE_WORKER_PROCESS_H_
#define WORKER_SERVICE_WORKER_PROCESS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "worker/collective/group_end.h"
#include "worker/collective/key_board.h"
#include "worker/executor/executor.h"
#include "worker/executor/load_executor.h"
#include "worker/service/cluster_link.h"

namespace quire {

struct WorkerProcessOptions {
  std::string host = "127.0.0.1";  // where to listen
  int32_t port = 0;                // 0 takes a free one
  ClusterLinkOptions link;         // but for its address, which follows
  // For a lost device's cause to reach the coordinator, before the process ends
  // whatever its threads and its driver are about.
  absl::Duration last_words_timeout = absl::Milliseconds(300);
};

// Makes the executor, as LoadExecutor does; see WorkerCore::Loader.
using ProcessLoader = std::function<absl::StatusOr<std::unique_ptr<Executor>>(
    const LoadSpec& spec, const LoadObserver& observer, KeyBoard* board,
    const Clock* clock)>;

// Blocks the signals that RunWorker() waits for. To be called before the
// process has a second thread, so that all inherit it.
void BlockWorkerSignals();

// Runs until told to go or alone, and returns the process's exit status: 0
// after SIGTERM or SIGINT, else 1. `group_end` hears of the end. Does not
// return, but ends the process with that status, where an orderly end may last:
// when the coordinator or the device is lost, or a step does not end. A status
// says why it could not even begin.
// REQUIRES: BlockWorkerSignals() was called.
absl::StatusOr<int> RunWorker(const WorkerProcessOptions& options,
                              const ProcessLoader& loader, GroupEnd* group_end);

}  // namespace quire

#endif  // WORKER_SERVICE_WORKER_PROCESS_H_
