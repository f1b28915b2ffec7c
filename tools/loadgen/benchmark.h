// SPDX-License-Identifier: Apache-2.0
//
// A whole load run from the first question to the last line.
#ifndef TOOLS_LOADGEN_BENCHMARK_H_
#define TOOLS_LOADGEN_BENCHMARK_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "tools/cli/progress.h"
#include "tools/loadgen/dataset.h"
#include "tools/loadgen/options.h"
#include "tools/loadgen/runner.h"
#include "tools/loadgen/server.h"
#include "tools/loadgen/statistics.h"
#include "tools/loadgen/verify.h"

namespace quire {

// Run is called once. Interrupt is thread-safe.
class Benchmark {
 public:
  // Results go to `out`, progress to `err`. Borrows all but `options`.
  Benchmark(LoadgenOptions options, ProgressStyle style, std::ostream* out,
            std::ostream* err, Clock* clock);

  // OK if every request was completed (or cancelled as planned) and every
  // check held. Aborted if requests failed, DataLoss if streams differ or
  // blocks are missing, Cancelled if interrupted; otherwise the reason why
  // there was no run.
  absl::Status Run();

  // Ends the run early; what there is is reported.
  void Interrupt();

 private:
  // InvalidArgument if a result is to be kept and cannot be.
  absl::Status CheckResultFile() const;
  absl::Status Prepare();
  absl::Status WarmUp();
  // Sends `calls` under the title `label`.
  RunResult Send(const std::string& label, std::vector<PlannedCall> calls,
                 int64_t max_concurrency);
  // Repeats what `run` completed and compares.
  absl::StatusOr<VerifyResult> Verify(const RunResult& run);
  // `verify` may be null: nothing was repeated.
  absl::Status Save(const RunResult& run, const RunMetrics& metrics,
                    const VerifyResult* verify);
  // The first few different errors of `run`, one line each.
  void PrintErrors(const RunResult& run);

  LoadgenOptions options_;
  const ProgressStyle style_;
  std::ostream* const out_;
  std::ostream* const err_;
  Clock* const clock_;
  const std::string id_prefix_;
  LoadTarget target_;
  std::vector<LoadPrompt> prompts_;

  absl::Mutex mutex_;
  bool is_interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  LoadRunner* runner_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_BENCHMARK_H_
