// SPDX-License-Identifier: Apache-2.0
//
// Starts a coordinator and its workers on this machine, shows them becoming
// ready, and stays beside them until somebody ends the server.
#ifndef TOOLS_QUIRE_LAUNCHER_H_
#define TOOLS_QUIRE_LAUNCHER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "proto/inference.pb.h"
#include "tools/cli/progress.h"
#include "tools/cli/rpc.h"
#include "tools/cli/signals.h"
#include "tools/quire/child_process.h"
#include "tools/quire/listening_line.h"
#include "tools/quire/load_progress.h"
#include "tools/quire/worker_life.h"

namespace quire {

struct LauncherOptions {
  std::string coordinator_binary;
  std::string worker_binary;
  // Complete command lines after the program's name. Each worker gets
  // --coordinator and --rank in addition.
  std::vector<std::string> coordinator_flags;
  std::vector<std::string> worker_flags;
  int64_t num_workers = 1;  // of each group
  // With several, a worker gets --group too, and one of them may end while the
  // server goes on: the coordinator knows when none is left.
  int64_t num_groups = 1;
  // Of several groups, each worker gets --device=cuda:N, a GPU of its own.
  bool numbers_gpus = false;
  // Start a worker that ended again: once the server is ready, and of several
  // groups before that, too.
  bool restarts_workers = false;
  // Where the children's logs go; an existing folder.
  std::string log_dir;
  // Repeat the children's logs on `err`, each line with its child's name.
  bool verbose = false;
  // Written, at once and whole, when the server is ready. Empty: none.
  std::string ready_file;
  // For the coordinator to drain, then again for the workers to leave. In the
  // last tenth it ends what still runs.
  absl::Duration grace = absl::Seconds(100);
  // For a worker that the coordinator has given up, to end by itself. One that
  // lives hears of it within half a second.
  absl::Duration dismissal_grace = absl::Seconds(5);
  ProgressStyle progress_style = ProgressStyle::kPlain;
};

// Thread-compatible; see ChildProcess about the calling thread.
class Launcher {
 public:
  // `events` must report children. Borrows all but `options`.
  Launcher(LauncherOptions options, SignalEvents* events, std::ostream* err,
           const Clock* clock);

  // Returns when the server has ended and no child is left: 0 after SIGINT or
  // SIGTERM, 2 if a child refused its flags, 1 if anything else went wrong.
  // The coordinator hears each of these signals, as it treats them differently
  // and hurries at the second; the third kills.
  int Run();

 private:
  enum class Stage { kStarting, kLoading, kServing };

  absl::Status StartCoordinator();
  absl::Status StartWorkers();
  absl::Status StartWorker(int64_t group, int64_t rank);
  // Notes workers that others can do without, and starts them again, later from
  // time to time, if that is wanted.
  absl::Status ReplaceWorkers();
  // Says that a worker has ended, and decides whether and when it begins again.
  void NoteEnd(size_t worker_idx);
  absl::Status Restart(size_t worker_idx);
  // Until the next worker begins again or is to have ended.
  absl::Duration UntilNextWorker() const;
  // Kills workers that are to have ended: they are stopped, or hang.
  void KillOverdue();
  absl::Status StartChild(ChildProcess::Options options);
  void HandleCoordinatorLine(const std::string& line);
  // Lets a worker that the coordinator has given up end, for a while.
  void Dismiss(const Dismissed& dismissed);
  // Lets the stage follow what the coordinator has said.
  absl::Status Advance();
  void ShowLoading();
  // Whether a group serves, and each that does not waits for a worker that has
  // failed: the coordinator may never hear of that one.
  bool ServesWithoutFailed(const v1::StatusResponse& status) const;
  bool HasFailed(size_t group) const;
  absl::Status AnnounceReady();
  absl::Status WriteReadyFile() const;

  // Waits up to `timeout` for signals, output and ended children.
  void Poll(absl::Duration timeout);
  void HandleSignals();
  // Whether the server ends with any of its workers.
  bool NeedsAllWorkers() const;
  // Whether each group has lost a worker before any was ready, or one did not
  // take its flags: what all have.
  bool NoGroupBegins() const;
  // Whether a child is gone that the server cannot do without.
  bool AnyExited() const;
  // Lets children end that fail together with one that has.
  void AwaitCompany();
  // Ends the coordinator, then the workers; by force after the grace.
  void StopChildren();
  // Sends `signal` to children [first, last), again when most of the grace is
  // over, and waits for their end.
  void Stop(size_t first, size_t last, int signal);

  const LauncherOptions options_;
  SignalEvents* const events_;
  std::ostream* const err_;
  const Clock* const clock_;
  const absl::Time start_;
  LoadProgress progress_;

  Stage stage_ = Stage::kStarting;
  bool has_served_ = false;  // a group, while others still loaded
  bool is_ready_ = false;    // so the coordinator says, or without the failed
  std::optional<std::string> listening_line_;
  std::optional<KvSize> kv_size_;
  std::vector<std::string> warnings_;  // the coordinator's
  Listening listening_;
  std::shared_ptr<grpc::Channel> control_;
  int num_interrupts_ = 0;
  int last_interrupt_ = 0;  // SIGINT or SIGTERM
  // The coordinator, then the workers by group and rank.
  std::vector<std::unique_ptr<ChildProcess>> children_;
  std::vector<WorkerLife> lives_;  // of the workers, in that order
};

}  // namespace quire

#endif  // TOOLS_QUIRE_LAUNCHER_H_
