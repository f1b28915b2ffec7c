// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/step_merger.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {

StepMerger::StepMerger(int32_t world_size, Epoch coordinator_epoch,
                       Epoch group_epoch)
    : coordinator_epoch_(coordinator_epoch),
      group_epoch_(group_epoch),
      last_answered_(world_size) {
  CHECK_GT(world_size, 0);
}

absl::Status StepMerger::Check(int32_t rank, const StepResult& result) const {
  const StepIdentity& id = result.identity;
  if (id.coordinator_epoch != coordinator_epoch_ ||
      id.group_epoch != group_epoch_) {
    return absl::InternalError(absl::StrCat(
        "rank ", rank, " answered for epoch ", id.coordinator_epoch.value(),
        "/", id.group_epoch.value(), " on a stream of epoch ",
        coordinator_epoch_.value(), "/", group_epoch_.value()));
  }
  const uint64_t due = last_answered_[rank].value() + 1;
  if (id.step_id.value() != due || id.step_id > last_sent_) {
    return absl::InternalError(absl::StrCat(
        "rank ", rank, " answered step ", id.step_id.value(), "; step ", due,
        " was due and ", last_sent_.value(), " the last one sent"));
  }
  if (rank == 0 && TokenDigest(result.tokens) != result.token_digest) {
    return absl::InternalError(
        absl::StrCat("rank 0 reported tokens of step ", id.step_id.value(),
                     " that its own digest does not cover"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<StepResult>> StepMerger::Add(int32_t rank,
                                                          StepResult result) {
  QUIRE_RETURN_IF_ERROR(Check(rank, result));
  const uint64_t step = result.identity.step_id.value();
  last_answered_[rank] = result.identity.step_id;
  const size_t open_idx = step - last_merged_.value() - 1;
  if (open_idx >= open_.size()) open_.resize(open_idx + 1);
  Open& open = open_[open_idx];
  if (open.num_answers == 0) {
    open.first_rank = rank;
    open.result = std::move(result);
  } else {
    const bool tokens_agree = result.token_digest == open.result.token_digest;
    if (!tokens_agree || result.table_digest != open.result.table_digest) {
      return absl::InternalError(absl::StrCat(
          "ranks ", open.first_rank, " and ", rank, " disagree on the ",
          tokens_agree ? "block tables" : "tokens", " of step ", step));
    }
    const int32_t step_us = std::max(open.result.step_us, result.step_us);
    if (rank == 0) open.result = std::move(result);
    open.result.step_us = step_us;
  }
  if (++open.num_answers < static_cast<int32_t>(last_answered_.size())) {
    return std::optional<StepResult>();
  }
  // Each rank answers in order, so the oldest open step completes first.
  std::optional<StepResult> merged = std::move(open_.front().result);
  open_.pop_front();
  last_merged_ = StepId(step);
  return merged;
}

int32_t StepMerger::SlowestRank() const {
  return static_cast<int32_t>(
      std::min_element(last_answered_.begin(), last_answered_.end()) -
      last_answered_.begin());
}

}  // namespace quire
