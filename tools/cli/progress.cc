// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace quire {
namespace {

constexpr absl::Duration kBarInterval = absl::Milliseconds(100);
constexpr absl::Duration kPlainInterval = absl::Seconds(10);
constexpr int kBarWidth = 24;
// A rate over less than this is noise.
constexpr absl::Duration kRateDelay = absl::Milliseconds(200);
// Erases what an earlier, longer line left on the right.
constexpr char kClearToEnd[] = "\x1b[K";

bool IsSet(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

}  // namespace

ProgressStyle ProgressStyleFor(int fd) {
  if (isatty(fd) != 1 || IsSet("NO_COLOR") || IsSet("CI")) {
    return ProgressStyle::kPlain;
  }
  return ProgressStyle::kBar;
}

std::string ShortDuration(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 60) {
    return absl::StrFormat("%.1fs", absl::ToDoubleSeconds(duration));
  }
  if (seconds < 3600) {
    return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  }
  return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
}

Progress::Progress(std::string label, Unit unit, ProgressStyle style,
                   std::ostream* out, const Clock* clock)
    : label_(std::move(label)),
      unit_(unit),
      style_(style),
      out_(out),
      clock_(clock),
      start_(clock->Now()) {}

void Progress::Update(uint64_t done, uint64_t total,
                      const std::string& detail) {
  done_ = std::min(done, total);
  total_ = total;
  detail_ = detail;
  updated_ = true;
  const absl::Duration interval =
      style_ == ProgressStyle::kBar ? kBarInterval : kPlainInterval;
  if (clock_->Now() - last_draw_ >= interval) Draw();
}

void Progress::Finish() {
  if (finished_ || !updated_) return;
  finished_ = true;
  if (last_draw_ == absl::InfinitePast() || drawn_ != done_) Draw();
  if (style_ == ProgressStyle::kBar) *out_ << "\n" << std::flush;
}

std::string Progress::Line() const {
  const double share = total_ == 0 ? 1.0 : double(done_) / total_;
  const absl::Duration elapsed = clock_->Now() - start_;
  const double rate =
      elapsed >= kRateDelay ? done_ / absl::ToDoubleSeconds(elapsed) : 0;
  std::string line = absl::StrFormat("%-8s ", label_);
  if (style_ == ProgressStyle::kBar) {
    const int filled = static_cast<int>(share * kBarWidth);
    absl::StrAppend(&line, "[", std::string(filled, '#'),
                    std::string(kBarWidth - filled, '.'), "] ");
  }
  // Rounded down: 100% means all.
  absl::StrAppendFormat(&line, "%3d%%", static_cast<int>(100 * share));
  if (unit_ == Unit::kBytes) {
    constexpr double kMiB = 1 << 20;
    absl::StrAppendFormat(&line, " %.1f/%.1f MiB", done_ / kMiB, total_ / kMiB);
    if (rate > 0) absl::StrAppendFormat(&line, "  %.1f MiB/s", rate / kMiB);
  } else if (unit_ == Unit::kCount) {
    absl::StrAppendFormat(&line, " %d/%d", done_, total_);
    if (rate > 0) absl::StrAppendFormat(&line, "  %.1f/s", rate);
  }
  if (done_ >= total_) {
    absl::StrAppend(&line, "  took ", ShortDuration(elapsed));
  } else if (rate > 0) {
    absl::StrAppend(&line, "  ETA ",
                    ShortDuration(absl::Seconds((total_ - done_) / rate)));
  }
  if (!detail_.empty()) absl::StrAppend(&line, "  ", detail_);
  return line;
}

void Progress::Draw() {
  if (style_ == ProgressStyle::kNone) return;
  last_draw_ = clock_->Now();
  drawn_ = done_;
  if (style_ == ProgressStyle::kBar) {
    *out_ << "\r" << Line() << kClearToEnd << std::flush;
  } else {
    *out_ << Line() << "\n" << std::flush;
  }
}

}  // namespace quire
