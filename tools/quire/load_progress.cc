// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/load_progress.h"

#include "absl/strings/str_cat.h"
#include "proto/cluster.pb.h"

namespace quire {
namespace {

struct Totals {
  uint64_t num_ranks = 0;
  uint64_t num_done = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  bool is_loading = false;
  bool is_warming = false;
};

Totals AddUp(const v1::StatusResponse& status) {
  Totals totals;
  for (const v1::Group& group : status.groups()) {
    if (group.state() == v1::GROUP_STATE_LOADING) totals.is_loading = true;
    if (group.state() == v1::GROUP_STATE_WARMING) totals.is_warming = true;
    for (const v1::Rank& rank : group.ranks()) {
      ++totals.num_ranks;
      if (rank.load_phase() == "done") ++totals.num_done;
      totals.bytes_done += rank.load_bytes_done();
      totals.bytes_total += rank.load_bytes_total();
    }
  }
  return totals;
}

}  // namespace

LoadProgress::LoadProgress(ProgressStyle style, std::ostream* out,
                           const Clock* clock)
    : style_(style), out_(out), clock_(clock) {}

void LoadProgress::Update(const v1::StatusResponse& status) {
  const Totals totals = AddUp(status);
  // A group that is ready already has nothing more to show.
  const bool is_loaded =
      totals.num_ranks > 0 && totals.num_done == totals.num_ranks;
  if (totals.bytes_total > 0 &&
      (totals.is_loading || (totals.is_warming && !is_loaded))) {
    bytes_total_ = totals.bytes_total;
    Stage("weights", Progress::Unit::kBytes)
        ->Update(totals.bytes_done, totals.bytes_total,
                 absl::StrCat(totals.num_done, "/", totals.num_ranks,
                              " ranks done"));
  } else if (totals.is_warming && is_loaded) {
    // The last report of the weights may have been missed.
    if (label_ == "weights") progress_->Update(bytes_total_, bytes_total_);
    Stage("warm-up", Progress::Unit::kNone)
        ->Update(0, 1, "profiling the largest step");
  }
}

void LoadProgress::Finish() {
  if (progress_ == nullptr) return;
  if (label_ == "weights") progress_->Update(bytes_total_, bytes_total_);
  if (label_ == "warm-up") progress_->Update(1, 1);
  progress_->Finish();
  progress_ = nullptr;
}

Progress* LoadProgress::Stage(const std::string& label, Progress::Unit unit) {
  if (progress_ == nullptr || label != label_) {
    if (progress_ != nullptr) progress_->Finish();
    label_ = label;
    progress_ = std::make_unique<Progress>(label, unit, style_, out_, clock_);
  }
  return progress_.get();
}

}  // namespace quire
