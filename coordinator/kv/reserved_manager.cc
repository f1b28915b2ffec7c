// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/reserved_manager.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Tokens that the rule gives room for, at most the window.
int32_t ReservedTokens(const KvOptions& options, LengthRule rule,
                       int32_t num_tokens, int32_t max_num_tokens) {
  CHECK_LE(num_tokens, max_num_tokens);
  switch (rule) {
    case LengthRule::kMax:
      break;
    case LengthRule::kPow2: {
      const auto num_left = static_cast<uint32_t>(max_num_tokens - num_tokens);
      const int64_t num_reserved =
          int64_t{num_tokens} + std::bit_ceil(std::max(num_left, 1u));
      return static_cast<int32_t>(
          std::min<int64_t>(num_reserved, options.max_model_len));
    }
    case LengthRule::kOracle:
      return std::min(max_num_tokens, options.max_model_len);
  }
  return options.max_model_len;
}

int32_t TableBlocks(const KvOptions& options, LengthRule rule,
                    int32_t num_tokens, int32_t max_num_tokens) {
  const int32_t num_reserved =
      ReservedTokens(options, rule, num_tokens, max_num_tokens);
  return (num_reserved - 1) / options.block_size + 1;
}

}  // namespace

ReservedManager::ReservedManager(const KvOptions& options, LengthRule rule)
    : options_(options), rule_(rule), pool_(options.num_blocks) {
  CHECK_GT(options.max_num_seqs, 0);
  CHECK_GT(options.max_model_len, 0);
  CHECK_GT(options.block_size, 0);
  CHECK_EQ(options.block_size & (options.block_size - 1), 0)
      << "block size " << options.block_size << " is not a power of two";
  ranges_.resize(options.max_num_seqs);
}

int32_t ReservedManager::NumRangeBlocks(const KvOptions& options,
                                        LengthRule rule, int32_t num_tokens,
                                        int32_t max_num_tokens) {
  return BuddyAllocator::RangeSize(
      TableBlocks(options, rule, num_tokens, max_num_tokens));
}

int32_t ReservedManager::MostRangeBlocks(const KvOptions& options,
                                         LengthRule rule, int32_t num_tokens,
                                         int32_t max_num_tokens) {
  int32_t most = NumRangeBlocks(options, rule, num_tokens, max_num_tokens);
  if (rule != LengthRule::kPow2) return most;
  // What is reserved in excess is largest with one token more than a power of
  // two to come.
  const int64_t num_left = int64_t{max_num_tokens} - num_tokens;
  for (int64_t power = 1; power + 1 <= num_left; power *= 2) {
    const auto num_known = static_cast<int32_t>(max_num_tokens - power - 1);
    most = std::max(most,
                    NumRangeBlocks(options, rule, num_known, max_num_tokens));
  }
  return most;
}

int32_t ReservedManager::AdmissionTokens(int32_t num_tokens,
                                         int32_t max_num_tokens) const {
  return NumRangeBlocks(options_, rule_, num_tokens, max_num_tokens) *
         options_.block_size;
}

const ReservedManager::Range& ReservedManager::At(SlotId slot) const {
  CHECK_LT(static_cast<uint32_t>(slot.value()), ranges_.size());
  return ranges_[slot.value()];
}

void ReservedManager::ToggleAll(SlotId slot, TableDigest* digest) const {
  const Range& range = At(slot);
  for (int32_t idx = 0; idx < range.num_blocks; ++idx) {
    digest->Toggle(slot, idx, range.first.value() + idx);
  }
}

absl::Status ReservedManager::Admit(SlotId slot, const KvAdmission& admission,
                                    AdmittedSlot* admitted,
                                    StepPlan* /*plan*/) {
  CHECK_EQ(At(slot).num_blocks, 0) << "slot " << slot << " is taken";
  const int32_t num_blocks = TableBlocks(
      options_, rule_, static_cast<int32_t>(admission.tokens.size()),
      admission.max_num_tokens);
  QUIRE_ASSIGN_OR_RETURN(const BlockId first, pool_.Allocate(num_blocks));
  ranges_[slot.value()] = {.first = first, .num_blocks = num_blocks};
  ToggleAll(slot, &digest_);
  admitted->num_computed_tokens = 0;
  admitted->cache = Placement(slot);
  return absl::OkStatus();
}

absl::Status ReservedManager::Grow(SlotId slot, int32_t num_computed,
                                   int32_t num_new, StepPlan* /*plan*/) {
  CHECK_LE(int64_t{num_computed} + num_new,
           int64_t{At(slot).num_blocks} * options_.block_size)
      << "slot " << slot << " passes its reservation";
  return absl::OkStatus();
}

void ReservedManager::Fork(SlotId parent, SlotId child, int32_t num_tokens) {
  LOG(FATAL) << "reserved memory is not shared: slot " << child << " forks "
             << num_tokens << " tokens of slot " << parent;
}

void ReservedManager::Release(SlotId slot) {
  if (At(slot).num_blocks == 0) return;
  ToggleAll(slot, &digest_);
  pool_.Free(At(slot).first);
  ranges_[slot.value()] = {};
}

int32_t ReservedManager::NumBlocks(SlotId slot) const {
  return At(slot).num_blocks;
}

int32_t ReservedManager::NumPrivateBlocks(
    absl::Span<const SlotId> slots) const {
  int32_t num_blocks = 0;
  for (SlotId slot : slots) {
    if (At(slot).num_blocks > 0) num_blocks += pool_.SizeAt(At(slot).first);
  }
  return num_blocks;
}

bool ReservedManager::MustCopy(SlotId /*slot*/,
                               int32_t /*num_computed*/) const {
  return false;
}

CachePlacement ReservedManager::Placement(SlotId slot) const {
  const Range& range = At(slot);
  std::vector<BlockId> blocks;
  blocks.reserve(range.num_blocks);
  for (int32_t idx = 0; idx < range.num_blocks; ++idx) {
    blocks.push_back(BlockId(range.first.value() + idx));
  }
  return blocks;
}

KvUsage ReservedManager::Usage() const {
  return {.num_blocks = pool_.num_blocks(),
          .num_free = pool_.num_free(),
          .num_cached = 0,
          .num_held = pool_.num_blocks() - pool_.num_free()};
}

absl::Status ReservedManager::CheckInvariants() const {
  QUIRE_RETURN_IF_ERROR(pool_.CheckInvariants());
  int32_t num_held = 0;
  TableDigest digest;
  for (size_t idx = 0; idx < ranges_.size(); ++idx) {
    const SlotId slot(static_cast<int32_t>(idx));
    ToggleAll(slot, &digest);
    if (At(slot).num_blocks == 0) continue;
    const int32_t size = pool_.SizeAt(At(slot).first);
    num_held += size;
    if (size != BuddyAllocator::RangeSize(At(slot).num_blocks)) {
      return absl::InternalError(
          absl::StrCat("slot ", slot.value(), " has a table of ",
                       At(slot).num_blocks, " in a range of ", size));
    }
  }
  if (num_held + pool_.num_free() != pool_.num_blocks()) {
    return absl::InternalError(
        absl::StrCat(num_held, " KV blocks are held and ", pool_.num_free(),
                     " free, of ", pool_.num_blocks()));
  }
  if (digest.value() != digest_.value()) {
    return absl::InternalError("the table digest is not that of the tables");
  }
  return absl::OkStatus();
}

}  // namespace quire
