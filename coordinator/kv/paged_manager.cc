// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/paged_manager.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

absl::Status OutOfBlocks(SlotId slot, int32_t num_wanted,
                         int32_t num_available) {
  return absl::ResourceExhaustedError(
      absl::StrCat("slot ", slot.value(), " wants ", num_wanted,
                   " more KV blocks, have ", num_available, " free"));
}

}  // namespace

PagedManager::PagedManager(const KvOptions& options)
    : options_(options), store_(options) {
  CHECK_GT(options.max_num_seqs, 0);
  CHECK_GT(options.block_size, 0);
  CHECK_EQ(options.block_size & (options.block_size - 1), 0)
      << "block size " << options.block_size << " is not a power of two";
  seats_.resize(options.max_num_seqs);
}

PagedManager::Seat& PagedManager::At(SlotId slot) {
  CHECK_LT(static_cast<uint32_t>(slot.value()), seats_.size());
  return seats_[slot.value()];
}

const PagedManager::Seat& PagedManager::At(SlotId slot) const {
  CHECK_LT(static_cast<uint32_t>(slot.value()), seats_.size());
  return seats_[slot.value()];
}

int32_t PagedManager::AdmissionTokens(int32_t /*num_tokens*/,
                                      int32_t /*max_num_tokens*/) const {
  return 0;
}

KvReuse PagedManager::FindReusable(const KvAdmission& admission) const {
  return store_.CountReusable(admission);
}

bool PagedManager::IsHeldByOthers(BlockPlace place) const {
  return place.is_device() && store_.pool().num_refs(place.device()) > 0;
}

absl::Status PagedManager::Admit(SlotId slot, const KvAdmission& admission,
                                 AdmittedSlot* admitted, StepPlan* plan) {
  Seat& seat = At(slot);
  BlockTable& table = seat.table;
  CHECK_EQ(table.num_blocks(), 0) << "slot " << slot << " is taken";
  places_.clear();
  const ReusableBlocks found = store_.FindReusable(admission, &places_);
  int32_t num_new = admission.num_new_tokens;
  if (found.num_computed > 0) {
    num_new = std::min(num_new, static_cast<int32_t>(admission.tokens.size()) -
                                    found.num_computed);
  }
  const int32_t offset = found.num_computed % options_.block_size;
  const bool copy = offset > 0 && IsHeldByOthers(places_.back());
  const int32_t num_appended =
      std::max(0, BlocksFor(found.num_computed + num_new) - found.num_blocks);
  int32_t num_wanted = num_appended + (copy ? 1 : 0);
  int32_t num_available = store_.pool().num_available();
  for (BlockPlace place : places_) {
    num_wanted += place.is_host();
    num_available -= place.is_device() && !IsHeldByOthers(place);
  }
  if (num_wanted > num_available) {
    return OutOfBlocks(slot, num_wanted, num_available);
  }

  blocks_.clear();
  store_.Reuse(places_, plan, &blocks_);
  for (BlockId block : blocks_) table.Append(block);
  table.DropBefore(found.num_dropped);
  if (copy) {
    const BlockCopy block_copy =
        table.Replace(table.num_blocks() - 1, store_.Take(plan));
    store_.Drop(block_copy.src);
    plan->copies.push_back(block_copy);
  } else if (offset > 0) {
    store_.PrepareWrite(blocks_.back(), offset);
  }
  for (int32_t i = 0; i < num_appended; ++i) table.Append(store_.Take(plan));
  seat.cursor = found.cursor;
  store_.Pin(seat.cursor);
  store_.Forget(admission.sequence_id);
  table.ToggleAll(slot, &digest_);
  admitted->num_computed_tokens = found.num_computed;
  admitted->cache = table.blocks();
  return absl::OkStatus();
}

void PagedManager::Publish(SlotId slot, absl::Span<const TokenId> tokens,
                           int32_t num_computed) {
  Seat& seat = At(slot);
  if (seat.cursor.scope == 0) return;
  const int32_t num_full = num_computed / options_.block_size;
  CHECK_LE(num_computed, tokens.size());
  CHECK_LE(num_full, seat.table.num_blocks());
  store_.Publish(tokens, num_full, seat.table, &seat.cursor);
}

void PagedManager::Park(SlotId slot, SequenceId sequence, int32_t num_computed,
                        ParkMode mode) {
  if (mode != ParkMode::kDrop && num_computed > 0) {
    store_.Park(sequence, num_computed, At(slot).table,
                /*may_swap=*/mode == ParkMode::kSwap);
  }
  Release(slot);
}

void PagedManager::Forget(SequenceId sequence) { store_.Forget(sequence); }

void PagedManager::ForgetAll() { store_.ForgetAll(); }

void PagedManager::DropBefore(SlotId slot, int32_t num_tokens) {
  BlockTable& table = At(slot).table;
  const int32_t first =
      std::min(num_tokens / options_.block_size, table.num_blocks());
  // The later ones first, so that they are evicted first.
  for (int32_t idx = first; idx > table.num_dropped();) {
    store_.Drop(table.block(--idx));
  }
  if (first > table.num_dropped()) table.DropBefore(first);
}

absl::Status PagedManager::Grow(SlotId slot, int32_t num_computed,
                                int32_t num_new, StepPlan* plan) {
  BlockTable& table = At(slot).table;
  const BlockPool& pool = store_.pool();
  const int32_t num_appended =
      std::max(0, BlocksFor(num_computed + num_new) - table.num_blocks());
  const int32_t idx = num_computed / options_.block_size;
  const int32_t offset = num_computed % options_.block_size;
  const bool writes_old_block = idx < table.num_blocks();
  // A sole holder writes in place, even if somebody might have asked for what
  // he overwrites: to copy what nobody holds could deny him the last block.
  const bool copy = writes_old_block && pool.num_refs(table.block(idx)) > 1;
  const int32_t num_wanted = num_appended + (copy ? 1 : 0);
  if (num_wanted > pool.num_available()) {
    return OutOfBlocks(slot, num_wanted, pool.num_available());
  }
  if (copy) {
    const BlockCopy block_copy = table.Replace(idx, store_.Take(plan));
    store_.Drop(block_copy.src);
    digest_.Toggle(slot, idx, block_copy.src.value());
    digest_.Toggle(slot, idx, block_copy.dst.value());
    plan->copies.push_back(block_copy);
    plan->replaced.push_back(
        {.slot = slot, .logical_idx = idx, .block = block_copy.dst});
  } else if (writes_old_block) {
    store_.PrepareWrite(table.block(idx), offset);
  }
  const int32_t first = table.num_blocks();
  for (int32_t i = first; i < first + num_appended; ++i) {
    const BlockId block = store_.Take(plan);
    table.Append(block);
    digest_.Toggle(slot, i, block.value());
    plan->appended.push_back({.slot = slot, .block = block});
  }
  return absl::OkStatus();
}

void PagedManager::Fork(SlotId parent, SlotId child, int32_t num_tokens) {
  Seat& seat = At(child);
  const Seat& from = At(parent);
  const int32_t num_blocks = BlocksFor(num_tokens);
  CHECK_GE(num_tokens / options_.block_size, from.table.num_dropped())
      << "fork of what has left the attention window";
  seat.table.ForkFrom(from.table, num_blocks);
  for (BlockId block : seat.table.live()) store_.Hold(block);
  seat.cursor =
      store_.ForkCursor(from.cursor, num_tokens / options_.block_size);
  seat.table.ToggleAll(child, &digest_);
}

void PagedManager::Release(SlotId slot) {
  Seat& seat = At(slot);
  seat.table.ToggleAll(slot, &digest_);
  // Backwards, so that a tail is evicted before what it follows, and a sequence
  // admitted next gets free ones in the same order.
  const absl::Span<const BlockId> blocks = seat.table.live();
  for (auto it = blocks.rbegin(); it != blocks.rend(); ++it) store_.Drop(*it);
  seat.table.Clear();
  store_.Unpin(std::exchange(seat.cursor, {}));
}

int32_t PagedManager::NumBlocks(SlotId slot) const {
  return At(slot).table.num_blocks();
}

int32_t PagedManager::NumPrivateBlocks(absl::Span<const SlotId> slots) const {
  std::vector<BlockId> held;
  for (SlotId slot : slots) {
    const absl::Span<const BlockId> blocks = At(slot).table.live();
    held.insert(held.end(), blocks.begin(), blocks.end());
  }
  std::sort(held.begin(), held.end());
  int32_t num_private = 0;
  for (auto it = held.begin(); it != held.end();) {
    const auto next = std::upper_bound(it, held.end(), *it);
    num_private += store_.pool().num_refs(*it) == next - it;
    it = next;
  }
  return num_private;
}

bool PagedManager::MustCopy(SlotId slot, int32_t num_computed) const {
  const BlockTable& table = At(slot).table;
  const int32_t idx = num_computed / options_.block_size;
  if (idx >= table.num_blocks()) return false;
  const BlockId block = table.block(idx);
  return store_.pool().num_refs(block) > 1 ||
         store_.IsWanted(block, num_computed % options_.block_size);
}

BlockHolders PagedManager::HoldersOf(SlotId slot, int32_t num_computed) const {
  const BlockTable& table = At(slot).table;
  const int32_t idx = num_computed / options_.block_size;
  if (idx >= table.num_blocks()) return {};
  const BlockId block = table.block(idx);
  return {.block = block, .num_slots = store_.pool().num_refs(block)};
}

CachePlacement PagedManager::Placement(SlotId slot) const {
  return At(slot).table.blocks();
}

KvUsage PagedManager::Usage() const {
  const BlockPool& pool = store_.pool();
  return {.num_blocks = pool.num_blocks(),
          .num_free = pool.num_free(),
          .num_cached = pool.num_cached(),
          .num_held = pool.num_blocks() - pool.num_available(),
          .num_host_blocks = store_.host_pool().num_blocks(),
          .num_free_host_blocks = store_.host_pool().num_free(),
          .num_host_prefix_blocks =
              store_.host_pool().num_listed(CacheRank::kPerhaps)};
}

absl::Status PagedManager::CheckInvariants() const {
  std::vector<int32_t> num_owners(store_.pool().num_blocks());
  std::vector<PrefixCursor> cursors;
  TableDigest digest;
  for (size_t slot = 0; slot < seats_.size(); ++slot) {
    const BlockTable& table = seats_[slot].table;
    for (BlockId block : table.live()) ++num_owners[block.value()];
    table.ToggleAll(SlotId(static_cast<int32_t>(slot)), &digest);
    cursors.push_back(seats_[slot].cursor);
  }
  QUIRE_RETURN_IF_ERROR(store_.CheckInvariants(num_owners, cursors));
  if (digest.value() != digest_.value()) {
    return absl::InternalError("the table digest is not that of the tables");
  }
  return absl::OkStatus();
}

}  // namespace quire
