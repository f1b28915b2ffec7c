// SPDX-License-Identifier: Apache-2.0
#include "coordinator/group_lives.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace quire {

GroupLives::GroupLives(const Options& options, Callbacks callbacks)
    : options_(options),
      callbacks_(std::move(callbacks)),
      lives_(options.num_groups) {}

void GroupLives::OnReady(int32_t group_idx, Epoch group_epoch,
                         int32_t num_blocks) {
  absl::MutexLock lock(&mutex_);
  if (!callbacks_.is_current(group_idx, group_epoch)) return;
  lives_[group_idx] = {.is_ready = true, .num_blocks = num_blocks};
  if (!stopped_) callbacks_.set_serving(true);
  TellReady();
}

void GroupLives::OnLost(int32_t group_idx, const absl::Status& cause,
                        bool was_launched) {
  absl::MutexLock lock(&mutex_);
  const LostGroup lost = Lose(group_idx, cause, was_launched);
  if (!IsAnyReady()) callbacks_.set_serving(false);
  if (callbacks_.on_lost != nullptr) callbacks_.on_lost(lost);
  if (!told_ready_ && IsAnyReady() && !EndsService(lost, options_.reform)) {
    TellReady();
  }
}

void GroupLives::StopServing() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  callbacks_.set_serving(false);
}

bool GroupLives::IsAnyReady() const {
  return std::any_of(lives_.begin(), lives_.end(),
                     [](const Life& life) { return life.is_ready; });
}

LostGroup GroupLives::Lose(int32_t group_idx, const absl::Status& cause,
                           bool was_launched) {
  Life& life = lives_[group_idx];
  LostGroup lost;
  lost.cause = NameGroup(group_idx, cause);
  // One that was launched may have been refused by the engine; then it never
  // ran. One that was lost before the engine said a word may have.
  lost.was_ready =
      was_launched && (life.is_ready || absl::IsUnavailable(cause));
  life = {.is_lost = true,
          .is_hopeless = !MayBegin(cause, lost.was_ready),
          .cause = std::string(lost.cause.message())};
  for (const Life& each : lives_) {
    lost.num_left += each.is_lost ? 0 : 1;
    lost.num_hopeful += each.is_hopeless ? 0 : 1;
  }
  return lost;
}

void GroupLives::TellReady() {
  int32_t num_blocks = 0;
  std::string missing;
  for (const Life& life : lives_) {
    if (!life.is_ready && !life.is_lost) return;
    num_blocks += life.num_blocks;
    if (life.is_lost && missing.empty()) missing = life.cause;
  }
  told_ready_ = true;
  if (callbacks_.on_ready != nullptr) callbacks_.on_ready(num_blocks, missing);
}

absl::Status GroupLives::NameGroup(int32_t group_idx,
                                   const absl::Status& cause) const {
  if (options_.num_groups == 1) return cause;
  return absl::Status(cause.code(),
                      absl::StrCat("group ", group_idx, ": ", cause.message()));
}

}  // namespace quire
