// SPDX-License-Identifier: Apache-2.0
//
// How EngineCore lets the sequences of a running group share: they fork from
// the one that has computed what they have in common, and copy a block when
// they first write into one that they share (PagedAttention, SOSP'23, section
// 4.4).
//
// Forks are made between plans: for parallel sampling by Seal(), right after
// the plan that computes the last of the prompt; for beams when the last
// result is known. The next plan that is sealed carries their SlotForks. Until
// then CancelFork() undoes one as if it had not been, and a parent that ends
// keeps its slot.
#include <algorithm>
#include <tuple>
#include <utility>

#include "coordinator/engine/engine_core.h"
#include "glog/logging.h"

namespace quire {

void EngineCore::ForkSiblings(Sequence* parent) {
  SequenceGroup* group = parent->group;
  // Beams fork from results instead.
  if (group->sampling.beam_width > 0 || !parent->has_slot) return;
  for (Sequence& seq : group->sequences) {
    if (seq.finished || seq.has_slot || !ForksLater(seq)) continue;
    Fork(parent, &seq, seq.num_prompt_tokens);
    --group->num_reserved_slots;
    --num_reserved_slots_;
  }
}

void EngineCore::Fork(Sequence* parent, Sequence* child, int32_t num_tokens) {
  CHECK(parent->has_slot && !child->has_slot && !free_slots_.empty());
  ForgetParked(child);
  const SlotId slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[slot.value()] = child;
  child->slot = slot;
  child->has_slot = true;

  RunningSequence* parent_entry = EntryOf(*parent);
  RunningSequence entry = *parent_entry;
  entry.slot = slot;
  entry.awaits_result = false;  // what its parent awaits, or its beams' to say
  entry.num_tokens = num_tokens;
  entry.num_computed_tokens =
      std::min(parent_entry->num_computed_tokens, num_tokens - 1);
  entry.num_prefill_tokens = entry.num_computed_tokens;  // it decodes
  entry.max_num_tokens = child->max_num_tokens;
  kv_->Fork(parent->slot, slot, entry.num_computed_tokens);
  forks_.push_back({.parent = parent->slot,
                    .child = slot,
                    .child_sequence_id = child->id,
                    .child_seed = SequenceSeed(child->group->sampling.slot.seed,
                                               child->index),
                    .num_tokens = num_tokens});
  entry.num_blocks = kv_->NumBlocks(slot);
  entry.num_private_blocks = 0;  // the parent's entry has them
  // A position that the parent has computed for this same token is written
  // again with the same bits, so it needs no block of its own.
  SetMustAsk(entry.num_computed_tokens == parent_entry->num_computed_tokens &&
                 kv_->MustCopy(slot, entry.num_computed_tokens),
             &entry);
  SetMustAsk(kv_->MustCopy(parent->slot, parent_entry->num_computed_tokens),
             parent_entry);
  const auto [begin, end] = GroupRange(*child->group);
  running_.insert(running_.begin() + end, entry);
}

void EngineCore::SetMustAsk(bool must_ask, RunningSequence* entry) {
  entry->must_ask = must_ask;
  entry->shares_last_block = must_ask;
}

bool EngineCore::CancelFork(SlotId child) {
  for (auto fork = forks_.begin(); fork != forks_.end(); ++fork) {
    if (fork->child != child) continue;
    forks_.erase(fork);
    return true;
  }
  return false;
}

bool EngineCore::IsForkParent(SlotId slot) const {
  return std::any_of(
      forks_.begin(), forks_.end(),
      [slot](const SlotFork& fork) { return fork.parent == slot; });
}

std::pair<size_t, size_t> EngineCore::GroupRange(
    const SequenceGroup& group) const {
  const std::pair<int64_t, int64_t> key(group.rank, group.arrival);
  const auto order = [](const RunningSequence& entry, const auto& wanted) {
    return std::pair(entry.rank, entry.arrival) < wanted;
  };
  const size_t begin =
      std::lower_bound(running_.begin(), running_.end(), key, order) -
      running_.begin();
  size_t end = begin;
  while (end < running_.size() && running_[end].arrival == group.arrival) ++end;
  return {begin, end};
}

RunningSequence* EngineCore::EntryOf(const Sequence& seq) {
  const auto [begin, end] = GroupRange(*seq.group);
  for (size_t idx = begin; idx < end; ++idx) {
    if (running_[idx].slot == seq.slot) return &running_[idx];
  }
  LOG(FATAL) << "sequence " << seq.id << " does not run";
}

void EngineCore::RefreshPrivateBlocks(size_t begin, size_t end) {
  if (begin == end) return;
  group_slots_.clear();
  for (size_t idx = begin; idx < end; ++idx) {
    group_slots_.push_back(running_[idx].slot);
    running_[idx].num_private_blocks = 0;
  }
  running_[begin].num_private_blocks = kv_->NumPrivateBlocks(group_slots_);
}

// What a sequence that ended shared with its siblings is still theirs.
void EngineCore::RefreshShrunkGroups() {
  for (RequestKey key : shrunk_) {
    const auto it = groups_.find(key);
    if (it == groups_.end()) continue;
    const auto [begin, end] = GroupRange(*it->second);
    RefreshPrivateBlocks(begin, end);
  }
  shrunk_.clear();
}

// A private block stops being one when another request finds it as a prefix.
// That is looked up only when somebody may be preempted, from the last group
// on, until as much as all may want would come free.
void EngineCore::RefreshVictims(int32_t num_free_blocks, bool everyone) {
  int32_t num_wanted = 0;
  if (!everyone) {
    // At most a copied and an appended block each.
    if (num_free_blocks >= 2 * static_cast<int32_t>(running_.size())) return;
    const int32_t block_size = kv_->block_size();
    for (const RunningSequence& entry : running_) {
      num_wanted += entry.shares_last_block;
      num_wanted +=
          entry.num_computed_tokens >= entry.num_blocks * block_size ? 1 : 0;
    }
  }
  size_t end = running_.size();
  while (end > 0 && (everyone || num_wanted > num_free_blocks)) {
    size_t begin = end - 1;
    while (begin > 0 &&
           running_[begin - 1].arrival == running_[begin].arrival) {
      --begin;
    }
    RefreshPrivateBlocks(begin, end);
    num_free_blocks += running_[begin].num_private_blocks;
    end = begin;
  }
}

}  // namespace quire
