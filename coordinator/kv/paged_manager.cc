// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/paged_manager.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

absl::Status OutOfBlocks(SlotId slot, int32_t num_wanted, int32_t num_free) {
  return absl::ResourceExhaustedError(
      absl::StrCat("slot ", slot.value(), " wants ", num_wanted,
                   " more KV blocks, have ", num_free, " free"));
}

}  // namespace

PagedManager::PagedManager(const KvOptions& options)
    : options_(options), pool_(options.num_blocks) {
  CHECK_GT(options.max_num_seqs, 0);
  CHECK_GT(options.block_size, 0);
  CHECK_EQ(options.block_size & (options.block_size - 1), 0)
      << "block size " << options.block_size << " is not a power of two";
  tables_.resize(options.max_num_seqs);
}

BlockTable& PagedManager::Table(SlotId slot) {
  CHECK_LT(static_cast<uint32_t>(slot.value()), tables_.size());
  return tables_[slot.value()];
}

const BlockTable& PagedManager::Table(SlotId slot) const {
  CHECK_LT(static_cast<uint32_t>(slot.value()), tables_.size());
  return tables_[slot.value()];
}

int32_t PagedManager::AdmissionTokens(int32_t /*num_tokens*/,
                                      int32_t /*max_num_tokens*/) const {
  return 0;
}

absl::Status PagedManager::Admit(SlotId slot, const KvAdmission& admission,
                                 AdmittedSlot* admitted, StepPlan* /*plan*/) {
  BlockTable& table = Table(slot);
  CHECK_EQ(table.num_blocks(), 0) << "slot " << slot << " is taken";
  const int32_t num_wanted = BlocksFor(admission.num_new_tokens);
  if (num_wanted > pool_.num_free()) {
    return OutOfBlocks(slot, num_wanted, pool_.num_free());
  }
  table.Append(num_wanted, &pool_);
  table.ToggleAll(slot, &digest_);
  admitted->num_computed_tokens = 0;
  admitted->cache = table.blocks();
  return absl::OkStatus();
}

absl::Status PagedManager::Grow(SlotId slot, int32_t num_computed,
                                int32_t num_new, StepPlan* plan) {
  BlockTable& table = Table(slot);
  const int32_t num_appended =
      std::max(0, BlocksFor(num_computed + num_new) - table.num_blocks());
  const bool copy = MustCopy(slot, num_computed);
  const int32_t num_wanted = num_appended + (copy ? 1 : 0);
  if (num_wanted > pool_.num_free()) {
    return OutOfBlocks(slot, num_wanted, pool_.num_free());
  }
  if (copy) {
    const int32_t idx = num_computed / options_.block_size;
    const BlockCopy block_copy = table.ReplaceShared(idx, &pool_);
    digest_.Toggle(slot, idx, block_copy.src.value());
    digest_.Toggle(slot, idx, block_copy.dst.value());
    plan->copies.push_back(block_copy);
    plan->replaced.push_back(
        {.slot = slot, .logical_idx = idx, .block = block_copy.dst});
  }
  const int32_t first = table.num_blocks();
  table.Append(num_appended, &pool_);
  for (int32_t idx = first; idx < table.num_blocks(); ++idx) {
    digest_.Toggle(slot, idx, table.block(idx).value());
    plan->appended.push_back({.slot = slot, .block = table.block(idx)});
  }
  return absl::OkStatus();
}

void PagedManager::Fork(SlotId parent, SlotId child, int32_t num_computed) {
  BlockTable& table = Table(child);
  table.ForkFrom(Table(parent), BlocksFor(num_computed), &pool_);
  table.ToggleAll(child, &digest_);
}

void PagedManager::Release(SlotId slot) {
  BlockTable& table = Table(slot);
  table.ToggleAll(slot, &digest_);
  table.Clear(&pool_);
}

int32_t PagedManager::NumBlocks(SlotId slot) const {
  return Table(slot).num_blocks();
}

int32_t PagedManager::NumPrivateBlocks(absl::Span<const SlotId> slots) const {
  std::vector<BlockId> held;
  for (SlotId slot : slots) {
    const std::vector<BlockId>& blocks = Table(slot).blocks();
    held.insert(held.end(), blocks.begin(), blocks.end());
  }
  std::sort(held.begin(), held.end());
  int32_t num_private = 0;
  for (auto it = held.begin(); it != held.end();) {
    const auto next = std::upper_bound(it, held.end(), *it);
    num_private += pool_.num_refs(*it) == next - it;
    it = next;
  }
  return num_private;
}

bool PagedManager::MustCopy(SlotId slot, int32_t num_computed) const {
  const BlockTable& table = Table(slot);
  const int32_t idx = num_computed / options_.block_size;
  return idx < table.num_blocks() && table.IsShared(idx, pool_);
}

CachePlacement PagedManager::Placement(SlotId slot) const {
  return Table(slot).blocks();
}

KvUsage PagedManager::Usage() const {
  return {.num_blocks = pool_.num_blocks(),
          .num_free = pool_.num_free(),
          .num_cached = 0,
          .num_held = pool_.num_blocks() - pool_.num_free()};
}

absl::Status PagedManager::CheckInvariants() const {
  QUIRE_RETURN_IF_ERROR(pool_.CheckInvariants());
  std::vector<int32_t> num_owners(pool_.num_blocks());
  TableDigest digest;
  for (size_t slot = 0; slot < tables_.size(); ++slot) {
    for (BlockId block : tables_[slot].blocks()) ++num_owners[block.value()];
    tables_[slot].ToggleAll(SlotId(static_cast<int32_t>(slot)), &digest);
  }
  for (int32_t block = 0; block < pool_.num_blocks(); ++block) {
    const int32_t num_refs = pool_.num_refs(BlockId(block));
    if (num_refs != num_owners[block]) {
      return absl::InternalError(absl::StrCat("KV block ", block, " has ",
                                              num_refs, " references but ",
                                              num_owners[block], " owners"));
    }
  }
  if (digest.value() != digest_.value()) {
    return absl::InternalError("the table digest is not that of the tables");
  }
  return absl::OkStatus();
}

}  // namespace quire
