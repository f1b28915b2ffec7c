// SPDX-License-Identifier: Apache-2.0
//
// Shows on a terminal, or in a log, how far a long task has come.
#ifndef TOOLS_CLI_PROGRESS_H_
#define TOOLS_CLI_PROGRESS_H_

#include <cstdint>
#include <ostream>
#include <string>

#include "absl/time/time.h"
#include "common/clock.h"

namespace quire {

enum class ProgressStyle {
  kBar,    // one line redrawn at most 10 times a second
  kPlain,  // a new line at most every 10 s, for logs
  kNone,
};

// kBar if `fd` is a terminal and neither NO_COLOR nor CI is set, else kPlain.
ProgressStyle ProgressStyleFor(int fd);

// Thread-compatible. Borrows `out` and `clock`.
class Progress {
 public:
  // How done and total are written: as counts, as mebibytes, or not at all
  // where only the duration says something.
  enum class Unit { kCount, kBytes, kNone };

  Progress(std::string label, Unit unit, ProgressStyle style, std::ostream* out,
           const Clock* clock);

  // Draws if enough time has passed since the last drawing. `detail` follows
  // the rate and the remaining time.
  void Update(uint64_t done, uint64_t total, const std::string& detail = "");

  // Draws the last state, if that is not done yet, and ends the line. Further
  // calls and calls before any Update do nothing.
  void Finish();

 private:
  std::string Line() const;
  void Draw();

  const std::string label_;
  const Unit unit_;
  const ProgressStyle style_;
  std::ostream* const out_;
  const Clock* const clock_;
  const absl::Time start_;
  absl::Time last_draw_ = absl::InfinitePast();
  bool updated_ = false;
  bool finished_ = false;
  uint64_t done_ = 0;
  uint64_t total_ = 0;
  uint64_t drawn_ = 0;  // done_ when it was last drawn
  std::string detail_;
};

// "7.2s", "3m05s" or "2h04m".
std::string ShortDuration(absl::Duration duration);

}  // namespace quire

#endif  // TOOLS_CLI_PROGRESS_H_
