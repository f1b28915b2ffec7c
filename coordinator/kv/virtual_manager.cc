// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/virtual_manager.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int32_t kNoRow = -1;

absl::Status OutOfGroups(SlotId slot, int32_t num_wanted, int32_t num_unused) {
  return absl::ResourceExhaustedError(
      absl::StrCat("slot ", slot.value(), " wants ", num_wanted,
                   " more page groups, have ", num_unused, " unused"));
}

}  // namespace

VirtualManager::VirtualManager(const KvOptions& options)
    : options_(options),
      rows_(options.max_num_seqs),
      row_of_slot_(options.max_num_seqs, kNoRow),
      num_free_(options.num_blocks) {
  CHECK_GT(options.num_blocks, 0);
  CHECK_GT(options.max_num_seqs, 0);
  CHECK_GT(options.block_size, 0);
  CHECK_GT(options.max_model_len, 0);
}

int32_t VirtualManager::AdmissionTokens(int32_t /*num_tokens*/,
                                        int32_t /*max_num_tokens*/) const {
  return 0;
}

int32_t VirtualManager::RowOf(SlotId slot) const {
  CHECK_LT(static_cast<uint32_t>(slot.value()), row_of_slot_.size());
  return row_of_slot_[slot.value()];
}

int32_t VirtualManager::ChooseRow(int32_t num_known_groups) const {
  int32_t best = kNoRow;
  for (int32_t idx = 0; idx < static_cast<int32_t>(rows_.size()); ++idx) {
    const Row& row = rows_[idx];
    if (row.is_held) continue;
    if (best == kNoRow) {
      best = idx;
      continue;
    }
    const int32_t num_best = rows_[best].num_mapped;
    const bool fits = row.num_mapped >= num_known_groups;
    const bool best_fits = num_best >= num_known_groups;
    if (fits != best_fits
            ? fits
            : (fits ? row.num_mapped < num_best : row.num_mapped > num_best)) {
      best = idx;
    }
  }
  return best;
}

void VirtualManager::SetMapped(int32_t row, int32_t num_groups,
                               StepPlan* plan) {
  num_free_ -= num_groups - rows_[row].num_mapped;
  rows_[row].num_mapped = num_groups;
  plan->mappings.push_back(
      {.row = CacheRowId(row), .num_page_groups = num_groups});
}

void VirtualManager::Reclaim(int32_t num_wanted, int32_t keeper, bool only_idle,
                             StepPlan* plan) {
  while (num_free_ < num_wanted) {
    int32_t victim = kNoRow;
    const auto rank = [this](int32_t idx) {
      return std::tuple(rows_[idx].is_held, rows_[idx].released, idx);
    };
    for (int32_t idx = 0; idx < static_cast<int32_t>(rows_.size()); ++idx) {
      const Row& row = rows_[idx];
      if (idx == keeper || row.num_spare() == 0) continue;
      if (only_idle && row.is_held) continue;
      if (victim == kNoRow || rank(idx) < rank(victim)) victim = idx;
    }
    if (victim == kNoRow) return;
    const int32_t num_taken =
        std::min(rows_[victim].num_spare(), num_wanted - num_free_);
    SetMapped(victim, rows_[victim].num_mapped - num_taken, plan);
  }
}

void VirtualManager::Use(int32_t row, int32_t num_groups, StepPlan* plan) {
  Row& state = rows_[row];
  if (num_groups > state.num_mapped) {
    const int32_t num_missing = num_groups - state.num_mapped;
    Reclaim(num_missing, row, /*only_idle=*/false, plan);
    CHECK_GE(num_free_, num_missing);
    SetMapped(row, num_groups, plan);
  }
  num_used_ += num_groups - state.num_used;
  state.num_used = num_groups;
}

absl::Status VirtualManager::Admit(SlotId slot, const KvAdmission& admission,
                                   AdmittedSlot* admitted, StepPlan* plan) {
  CHECK_EQ(RowOf(slot), kNoRow) << "slot " << slot << " is taken";
  const int32_t num_wanted = GroupsFor(admission.num_new_tokens);
  const int32_t num_unused = options_.num_blocks - num_used_;
  if (num_wanted > num_unused) return OutOfGroups(slot, num_wanted, num_unused);
  const int32_t num_known =
      GroupsFor(static_cast<int32_t>(admission.tokens.size()));
  const int32_t row = ChooseRow(std::max(num_wanted, num_known));
  CHECK_NE(row, kNoRow) << "more slots than rows";
  rows_[row].is_held = true;
  row_of_slot_[slot.value()] = row;
  digest_.Toggle(slot, 0, row);
  Use(row, num_wanted, plan);
  admitted->num_computed_tokens = 0;
  admitted->cache = CacheRowId(row);
  return absl::OkStatus();
}

absl::Status VirtualManager::Grow(SlotId slot, int32_t num_computed,
                                  int32_t num_new, StepPlan* plan) {
  const int32_t row = RowOf(slot);
  CHECK_NE(row, kNoRow) << "slot " << slot << " holds nothing";
  const int32_t num_groups = GroupsFor(num_computed + num_new);
  const int32_t num_wanted = num_groups - rows_[row].num_used;
  if (num_wanted <= 0) return absl::OkStatus();
  const int32_t num_unused = options_.num_blocks - num_used_;
  if (num_wanted > num_unused) return OutOfGroups(slot, num_wanted, num_unused);
  Use(row, num_groups, plan);
  return absl::OkStatus();
}

void VirtualManager::MapAhead(SlotId slot, int32_t num_tokens, StepPlan* plan) {
  const int32_t row = RowOf(slot);
  CHECK_NE(row, kNoRow) << "slot " << slot << " holds nothing";
  const int32_t num_missing = GroupsFor(num_tokens) - rows_[row].num_mapped;
  if (num_missing <= 0) return;
  Reclaim(num_missing, row, /*only_idle=*/true, plan);
  const int32_t num_added = std::min(num_missing, num_free_);
  if (num_added == 0) return;
  SetMapped(row, rows_[row].num_mapped + num_added, plan);
}

void VirtualManager::Fork(SlotId parent, SlotId child, int32_t num_tokens) {
  LOG(FATAL) << "rows are not shared: slot " << child << " forks " << num_tokens
             << " tokens of slot " << parent;
}

void VirtualManager::Release(SlotId slot) {
  const int32_t row = RowOf(slot);
  if (row == kNoRow) return;
  digest_.Toggle(slot, 0, row);
  row_of_slot_[slot.value()] = kNoRow;
  num_used_ -= rows_[row].num_used;
  rows_[row].num_used = 0;
  rows_[row].is_held = false;
  rows_[row].released = ++num_releases_;
}

int32_t VirtualManager::NumBlocks(SlotId slot) const {
  const int32_t row = RowOf(slot);
  return row == kNoRow ? 0 : rows_[row].num_used;
}

int32_t VirtualManager::NumPrivateBlocks(absl::Span<const SlotId> slots) const {
  int32_t num_groups = 0;
  for (SlotId slot : slots) num_groups += NumBlocks(slot);
  return num_groups;
}

bool VirtualManager::MustCopy(SlotId /*slot*/, int32_t /*num_computed*/) const {
  return false;
}

CachePlacement VirtualManager::Placement(SlotId slot) const {
  const int32_t row = RowOf(slot);
  CHECK_NE(row, kNoRow) << "slot " << slot << " holds nothing";
  return CacheRowId(row);
}

KvUsage VirtualManager::Usage() const {
  return {.num_blocks = options_.num_blocks,
          .num_free = num_free_,
          .num_cached = options_.num_blocks - num_free_ - num_used_,
          .num_held = num_used_};
}

absl::Status VirtualManager::CheckInvariants() const {
  int32_t num_mapped = 0;
  int32_t num_used = 0;
  int32_t num_held_rows = 0;
  for (size_t idx = 0; idx < rows_.size(); ++idx) {
    const Row& row = rows_[idx];
    num_mapped += row.num_mapped;
    num_used += row.num_used;
    num_held_rows += row.is_held;
    if (row.num_used < 0 || row.num_spare() < 0 ||
        (!row.is_held && row.num_used > 0)) {
      return absl::InternalError(absl::StrCat("row ", idx, " uses ",
                                              row.num_used, " of ",
                                              row.num_mapped, " page groups"));
    }
  }
  TableDigest digest;
  std::vector<bool> seen(rows_.size());
  int32_t num_slots = 0;
  for (size_t slot = 0; slot < row_of_slot_.size(); ++slot) {
    const int32_t row = row_of_slot_[slot];
    if (row == kNoRow) continue;
    ++num_slots;
    digest.Toggle(SlotId(static_cast<int32_t>(slot)), 0, row);
    if (seen[row] || !rows_[row].is_held) {
      return absl::InternalError(
          absl::StrCat("row ", row, " is not slot ", slot, "'s alone"));
    }
    seen[row] = true;
  }
  if (num_mapped + num_free_ != options_.num_blocks || num_used != num_used_ ||
      num_slots != num_held_rows) {
    return absl::InternalError(absl::StrCat(
        num_mapped, " page groups are mapped and ", num_free_, " free, of ",
        options_.num_blocks, "; ", num_used, " are used, the count says ",
        num_used_, "; ", num_slots, " slots hold ", num_held_rows, " rows"));
  }
  if (digest.value() != digest_.value()) {
    return absl::InternalError("the table digest is not that of the tables");
  }
  return absl::OkStatus();
}

}  // namespace quire
