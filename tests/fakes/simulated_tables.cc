// SPDX-License-Identifier: Apache-2.0
//
// What plans do to a SimulatedWorkerGroup's slots, tables and memory, before
// any token runs.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {

SimulatedWorkerGroup::Slot* SimulatedWorkerGroup::At(SlotId slot, bool live) {
  static Slot nowhere;
  if (slot.value() < 0 || slot.value() >= options_.max_num_seqs ||
      slots_[slot.value()].live != live) {
    Fail(absl::StrCat("slot ", slot.value(), " is not ",
                      live ? "live" : "free"));
    nowhere = Slot();
    return &nowhere;
  }
  return &slots_[slot.value()];
}

void SimulatedWorkerGroup::Hold(SlotId slot_id, int32_t logical_idx,
                                BlockId block) {
  if (block.value() < 0 || block.value() >= options_.num_blocks) {
    Fail(absl::StrCat("block ", block.value(), " does not exist"));
    return;
  }
  ++num_holders_[block.value()];
  digest_.Toggle(slot_id, logical_idx, block.value());
}

void SimulatedWorkerGroup::Drop(SlotId slot_id, int32_t logical_idx,
                                BlockId block) {
  --num_holders_[block.value()];
  digest_.Toggle(slot_id, logical_idx, block.value());
}

void SimulatedWorkerGroup::LeaveBehind(Slot* slot) {
  const int32_t num_dropped =
      std::min(FirstSeen(*slot) / options_.block_size,
               static_cast<int32_t>(slot->table.size()));
  for (; slot->num_dropped < num_dropped; ++slot->num_dropped) {
    --num_holders_[slot->table[slot->num_dropped].value()];
  }
}

// Slots of this very plan that find in the block what this step computes.
int32_t SimulatedWorkerGroup::NumFinders(BlockId block) const {
  int32_t num = 0;
  for (const Slot& slot : slots_) {
    if (!slot.live || slot.admitted_by != last_step_.step_id) continue;
    const int32_t num_found =
        (slot.num_computed + options_.block_size - 1) / options_.block_size;
    num += std::count(slot.table.begin() + slot.num_dropped,
                      slot.table.begin() + num_found, block);
  }
  return num;
}

// Whatever the last owner wrote must not be mistaken for the new one's.
void SimulatedWorkerGroup::Wipe(BlockId block) {
  if (num_holders_[block.value()] != 1 &&
      num_holders_[block.value()] - NumFinders(block) != 1) {
    Fail(absl::StrCat("block ", block.value(), " is given to a second slot"));
  }
  const auto begin =
      cache_.begin() + int64_t{block.value()} * options_.block_size;
  std::fill(begin, begin + options_.block_size, 0);
}

void SimulatedWorkerGroup::Release(SlotId slot_id) {
  Slot* slot = At(slot_id, /*live=*/true);
  for (size_t idx = 0; idx < slot->table.size(); ++idx) {
    // Drop() counts it once more.
    num_holders_[slot->table[idx].value()] += idx < slot->num_dropped;
    Drop(slot_id, static_cast<int32_t>(idx), slot->table[idx]);
  }
  if (slot->row.has_value()) {
    row_is_held_[slot->row->value()] = false;
    digest_.Toggle(slot_id, 0, slot->row->value());
  }
  *slot = Slot();
}

void SimulatedWorkerGroup::TakeRow(SlotId slot_id, CacheRowId row) {
  if (row.value() < 0 || row.value() >= static_cast<int32_t>(rows_.size()) ||
      row_is_held_[row.value()]) {
    Fail(absl::StrCat("row ", row.value(), " is not free"));
    return;
  }
  row_is_held_[row.value()] = true;
  slots_[slot_id.value()].row = row;
  digest_.Toggle(slot_id, 0, row.value());
}

// Memory that comes holds nothing; what goes takes its contents along.
void SimulatedWorkerGroup::MapRows(const StepPlan& plan) {
  for (const RowMapping& mapping : plan.mappings) {
    if (mapping.row.value() < 0 ||
        mapping.row.value() >= static_cast<int32_t>(rows_.size())) {
      Fail(absl::StrCat("row ", mapping.row.value(), " does not exist"));
      continue;
    }
    rows_[mapping.row.value()].resize(
        int64_t{mapping.num_page_groups} * options_.block_size, 0);
    int64_t num_values = 0;
    for (const std::vector<KvValue>& row : rows_) num_values += row.size();
    if (num_values > int64_t{options_.num_blocks} * options_.block_size) {
      Fail("more page groups are mapped than there are");
    }
  }
}

void SimulatedWorkerGroup::Fork(const SlotFork& fork) {
  const Slot* parent = At(fork.parent, /*live=*/true);
  Slot* child = At(fork.child, /*live=*/false);
  const int32_t num_computed =
      std::min(parent->num_computed, fork.num_tokens - 1);
  const int32_t num_blocks =
      (num_computed + options_.block_size - 1) / options_.block_size;
  if (fork.num_tokens < 1 ||
      fork.num_tokens > static_cast<int32_t>(parent->tokens.size())) {
    Fail("a fork of more tokens than there are, or of none");
    return;
  }
  *child = *parent;
  child->sequence_id = fork.child_sequence_id;
  child->sampling.seed = fork.child_seed;
  child->tokens.resize(fork.num_tokens);
  child->num_computed = num_computed;
  child->written.resize(num_computed);
  child->table.resize(num_blocks);
  // The parent may have left behind since what this plan's forks still see.
  child->num_dropped = 0;
  for (int32_t idx = 0; idx < num_blocks; ++idx) {
    Hold(fork.child, idx, child->table[idx]);
  }
  LeaveBehind(child);
}

void SimulatedWorkerGroup::SetNextToken(const NextToken& next) {
  Slot* slot = At(next.slot, /*live=*/true);
  const int32_t num_tokens = static_cast<int32_t>(slot->tokens.size());
  if (slot->num_computed >= num_tokens ||
      slot->num_prompt_tokens >= num_tokens) {
    Fail(absl::StrCat("slot ", next.slot.value(),
                      " has no last token of its own to change"));
    return;
  }
  slot->tokens.back() = next.token;
}

void SimulatedWorkerGroup::Admit(const AdmittedSlot& admitted) {
  Slot* slot = At(admitted.slot, /*live=*/false);
  if (admitted.num_computed_tokens < 0 ||
      admitted.num_computed_tokens >= admitted.tokens.size() ||
      admitted.num_prompt_tokens > admitted.tokens.size()) {
    Fail("an admitted slot's lengths are wrong");
  }
  slot->live = true;
  slot->sequence_id = admitted.sequence_id;
  slot->tokens = admitted.tokens;
  slot->num_prompt_tokens = admitted.num_prompt_tokens;
  slot->num_computed = admitted.num_computed_tokens;
  slot->admitted_by = last_step_.step_id;
  slot->sampling = admitted.sampling;
  slot->table.clear();
  slot->num_dropped = 0;
  slot->row.reset();
  if (const auto* row = std::get_if<CacheRowId>(&admitted.cache)) {
    TakeRow(admitted.slot, *row);
  } else {
    slot->table = std::get<std::vector<BlockId>>(admitted.cache);
  }
  for (size_t idx = 0; idx < slot->table.size(); ++idx) {
    Hold(admitted.slot, static_cast<int32_t>(idx), slot->table[idx]);
    if (static_cast<int32_t>(idx) * options_.block_size >= slot->num_computed) {
      Wipe(slot->table[idx]);
    }
  }
  LeaveBehind(slot);
  uint64_t prefix = kEmptyPrefix;
  for (int32_t position = 0; position < slot->num_computed; ++position) {
    prefix = Extend(prefix, slot->tokens[position]);
    slot->written.push_back(prefix);
  }
}

void SimulatedWorkerGroup::ApplyTables(const StepPlan& plan) {
  for (SlotId slot : plan.released) Release(slot);
  for (const SlotFork& fork : plan.forks) Fork(fork);
  for (const NextToken& next : plan.next_tokens) SetNextToken(next);
  for (const AdmittedSlot& admitted : plan.admitted) Admit(admitted);
  for (const ReplacedBlock& replaced : plan.replaced) {
    Slot* slot = At(replaced.slot, /*live=*/true);
    if (replaced.logical_idx >= slot->table.size()) {
      Fail("a block that is not there is replaced");
      continue;
    }
    BlockId& block = slot->table[replaced.logical_idx];
    Drop(replaced.slot, replaced.logical_idx, block);
    block = replaced.block;
    Hold(replaced.slot, replaced.logical_idx, block);
    Wipe(block);
  }
  for (const AppendedBlock& appended : plan.appended) {
    Slot* slot = At(appended.slot, /*live=*/true);
    Hold(appended.slot, static_cast<int32_t>(slot->table.size()),
         appended.block);
    slot->table.push_back(appended.block);
    Wipe(appended.block);
  }
}

void SimulatedWorkerGroup::ApplyCopies(const StepPlan& plan) {
  for (const BlockSwap& swap : plan.swap_ins) {
    const KvValue* from = BlockBegin(swap.host);
    KvValue* to = BlockBegin(swap.device);
    if (from == nullptr || to == nullptr) continue;
    std::copy_n(from, options_.block_size, to);
    ++num_swaps_;
  }
  for (Slot& slot : slots_) slot.mask.clear();
  for (const SlotMask& mask : plan.masks) {
    Slot* slot = At(mask.slot, /*live=*/true);
    if (!slot->sampling.needs_mask) Fail("a mask that is not needed");
    slot->mask = mask.words;
  }
  for (const BlockCopy& copy : plan.copies) {
    const KvValue* from = BlockBegin(copy.src);
    KvValue* to = BlockBegin(copy.dst);
    if (from == nullptr || to == nullptr) continue;
    std::copy_n(from, options_.block_size, to);
  }
}

void SimulatedWorkerGroup::ApplySwapOuts(const StepPlan& plan) {
  for (const BlockSwap& swap : plan.swap_outs) {
    const KvValue* from = BlockBegin(swap.device);
    KvValue* to = BlockBegin(swap.host);
    if (from == nullptr || to == nullptr) continue;
    std::copy_n(from, options_.block_size, to);
    ++num_swaps_;
  }
}

SimulatedWorkerGroup::KvValue* SimulatedWorkerGroup::BlockBegin(BlockId block) {
  if (block.value() < 0 || block.value() >= options_.num_blocks) {
    Fail(absl::StrCat("block ", block.value(), " does not exist"));
    return nullptr;
  }
  return &cache_[int64_t{block.value()} * options_.block_size];
}

SimulatedWorkerGroup::KvValue* SimulatedWorkerGroup::BlockBegin(
    HostBlockId block) {
  if (block.value() < 0 || block.value() >= options_.num_host_blocks) {
    Fail(absl::StrCat("host block ", block.value(), " does not exist"));
    return nullptr;
  }
  return &host_cache_[int64_t{block.value()} * options_.block_size];
}

}  // namespace quire
