// SPDX-License-Identifier: Apache-2.0
//
// A cluster's way to readiness, told as progress: ranks that joined, weights
// that are loaded, warm-up.
#ifndef TOOLS_QUIRE_LOAD_PROGRESS_H_
#define TOOLS_QUIRE_LOAD_PROGRESS_H_

#include <memory>
#include <ostream>

#include "common/clock.h"
#include "tools/cli/progress.h"

namespace quire {

namespace v1 {
class StatusResponse;
}  // namespace v1

// Thread-compatible. Borrows `out` and `clock`.
class LoadProgress {
 public:
  LoadProgress(ProgressStyle style, std::ostream* out, const Clock* clock);

  // Shows what `status` says; call it as often as there is news.
  void Update(const v1::StatusResponse& status);
  // Ends the last line.
  void Finish();

 private:
  // The bar of the current stage; finishes that of the stage before.
  Progress* Stage(const std::string& label, Progress::Unit unit);

  const ProgressStyle style_;
  std::ostream* const out_;
  const Clock* const clock_;
  std::string label_;
  std::unique_ptr<Progress> progress_;
  uint64_t bytes_total_ = 0;
};

}  // namespace quire

#endif  // TOOLS_QUIRE_LOAD_PROGRESS_H_
