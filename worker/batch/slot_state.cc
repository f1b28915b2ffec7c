// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/slot_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

template <typename... Args>
absl::Status Contradiction(SlotId slot, const Args&... what) {
  return absl::InternalError(
      absl::StrCat("slot ", slot.value(), ": ", what...));
}

// As bits, by id.
std::vector<uint32_t> WordsOf(const std::vector<TokenId>& ids) {
  if (ids.empty()) return {};
  std::vector<uint32_t> words(ids.back() / 32 + 1);
  for (TokenId id : ids) words[id / 32] |= uint32_t{1} << (id % 32);
  return words;
}

int32_t BlocksFor(int32_t num_tokens, int32_t block_size) {
  return (num_tokens + block_size - 1) / block_size;
}

}  // namespace

SlotStates::SlotStates(const SlotLimits& limits)
    : limits_(limits),
      max_blocks_per_seq_(BlocksFor(limits.max_model_len, limits.block_size)),
      slots_(limits.max_num_seqs),
      tables_(int64_t{limits.max_num_seqs} * max_blocks_per_seq_),
      changed_idx_(limits.max_num_seqs, -1) {
  CHECK_GT(limits.max_num_seqs, 0);
  CHECK_GT(max_blocks_per_seq_, 0);
  changed_.reserve(limits.max_num_seqs);
  unknown_.reserve(limits.max_num_seqs);
}

absl::Status SlotStates::Apply(const StepPlan& plan) {
  if (plan.resync) Clear();
  for (SlotId slot : plan.released) QUIRE_RETURN_IF_ERROR(Release(slot));
  for (const SlotFork& fork : plan.forks) QUIRE_RETURN_IF_ERROR(Fork(fork));
  for (const NextToken& next : plan.next_tokens) {
    QUIRE_RETURN_IF_ERROR(SetNextToken(next));
  }
  for (const AdmittedSlot& admitted : plan.admitted) {
    QUIRE_RETURN_IF_ERROR(Admit(admitted));
  }
  for (const ReplacedBlock& replaced : plan.replaced) {
    QUIRE_RETURN_IF_ERROR(Replace(replaced));
  }
  for (const AppendedBlock& appended : plan.appended) {
    QUIRE_RETURN_IF_ERROR(CheckAlive(appended.slot));
    QUIRE_RETURN_IF_ERROR(Append(appended.slot, appended.block.value()));
  }
  for (const SlotMask& mask : plan.masks) QUIRE_RETURN_IF_ERROR(SetMask(mask));
  return CheckMoves(plan);
}

void SlotStates::Clear() {
  for (Slot& slot : slots_) slot.is_alive = false;
  digest_.Clear();
}

absl::Status SlotStates::CheckInRange(SlotId slot) const {
  if (slot.value() >= 0 && slot.value() < limits_.max_num_seqs) {
    return absl::OkStatus();
  }
  return Contradiction(slot, "unknown, there are ", limits_.max_num_seqs);
}

absl::Status SlotStates::CheckAlive(SlotId slot) const {
  QUIRE_RETURN_IF_ERROR(CheckInRange(slot));
  if (slots_[slot.value()].is_alive) return absl::OkStatus();
  return Contradiction(slot, "holds no sequence");
}

absl::Status SlotStates::CheckFree(SlotId slot) const {
  QUIRE_RETURN_IF_ERROR(CheckInRange(slot));
  const Slot& state = slots_[slot.value()];
  if (!state.is_alive) return absl::OkStatus();
  return Contradiction(slot, "already holds sequence ",
                       state.sequence_id.value());
}

absl::Status SlotStates::CheckBlock(SlotId slot, int32_t block) const {
  if (block >= 0 && block < limits_.num_blocks) return absl::OkStatus();
  return Contradiction(slot, "block ", block, " is not one of ",
                       limits_.num_blocks);
}

absl::Status SlotStates::CheckToken(SlotId slot, TokenId token) const {
  if (token >= 0 && token < limits_.vocab_size) return absl::OkStatus();
  return Contradiction(slot, "token id ", token, ", the vocabulary has ",
                       limits_.vocab_size);
}

absl::Status SlotStates::CheckMoves(const StepPlan& plan) const {
  const auto is_device = [this](BlockId block) {
    return block.value() >= 0 && block.value() < limits_.num_blocks;
  };
  const auto is_host = [this](HostBlockId block) {
    return block.value() >= 0 && block.value() < limits_.num_host_blocks;
  };
  for (const BlockCopy& copy : plan.copies) {
    if (is_device(copy.src) && is_device(copy.dst)) continue;
    return absl::InternalError(
        absl::StrCat("copy of block ", copy.src.value(), " to ",
                     copy.dst.value(), ": the pool has ", limits_.num_blocks));
  }
  for (const auto* swaps : {&plan.swap_outs, &plan.swap_ins}) {
    for (const BlockSwap& swap : *swaps) {
      if (is_device(swap.device) && is_host(swap.host)) continue;
      return absl::InternalError(absl::StrCat(
          "swap of device block ", swap.device.value(), " and host block ",
          swap.host.value(), ": the pools have ", limits_.num_blocks, " and ",
          limits_.num_host_blocks));
    }
  }
  return absl::OkStatus();
}

absl::Status SlotStates::Release(SlotId slot) {
  QUIRE_RETURN_IF_ERROR(CheckAlive(slot));
  Slot& state = slots_[slot.value()];
  const absl::Span<const int32_t> table = block_table(slot);
  for (int32_t i = 0; i < state.num_blocks; ++i) {
    digest_.Toggle(slot, i, table[i]);
  }
  state.is_alive = false;
  return absl::OkStatus();
}

absl::Status SlotStates::Fork(const SlotFork& fork) {
  QUIRE_RETURN_IF_ERROR(CheckAlive(fork.parent));
  QUIRE_RETURN_IF_ERROR(CheckFree(fork.child));
  const Slot& parent = slots_[fork.parent.value()];
  const int32_t num_computed =
      std::min(parent.num_computed, fork.num_tokens - 1);
  const int32_t num_shared = BlocksFor(num_computed, limits_.block_size);
  if (num_shared > parent.num_blocks) {
    return Contradiction(fork.parent, "fork of ", num_shared,
                         " blocks, it has ", parent.num_blocks);
  }
  if (fork.num_tokens < 1 || fork.num_tokens > parent.num_tokens()) {
    return Contradiction(fork.parent, "fork of ", fork.num_tokens,
                         " tokens, it has ", parent.num_tokens());
  }
  Slot& child = slots_[fork.child.value()];
  child.is_alive = true;
  child.tenancy = ++last_tenancy_;
  child.sequence_id = fork.child_sequence_id;
  child.tokens.assign(parent.tokens.begin(),
                      parent.tokens.begin() + fork.num_tokens);
  child.num_prompt = std::min(parent.num_prompt, fork.num_tokens);
  child.num_computed = num_computed;
  child.sampling = parent.sampling;
  child.sampling.seed = fork.child_seed;
  child.allowed = parent.allowed;
  child.masked_position = -1;
  ResetCounts(&child);
  child.num_blocks = 0;
  for (int32_t i = 0; i < num_shared; ++i) {
    QUIRE_RETURN_IF_ERROR(Append(fork.child, block_table(fork.parent)[i]));
  }
  return absl::OkStatus();
}

absl::Status SlotStates::SetNextToken(const NextToken& next) {
  QUIRE_RETURN_IF_ERROR(CheckAlive(next.slot));
  QUIRE_RETURN_IF_ERROR(CheckToken(next.slot, next.token));
  Slot& state = slots_[next.slot.value()];
  // Prompt tokens are given, and admitted outputs are what plans made them.
  if (state.num_uncomputed() == 0 || state.num_tokens() == state.num_prompt) {
    return Contradiction(next.slot, "its last token is not its own to change: ",
                         state.num_computed, " computed, ", state.num_prompt,
                         " of the prompt, of ", state.num_tokens());
  }
  state.tokens.back() = next.token;
  // The replaced token must not count as seen, nor as the first of its kind.
  ResetCounts(&state);
  return absl::OkStatus();
}

absl::Status SlotStates::Admit(const AdmittedSlot& admitted) {
  const SlotId slot = admitted.slot;
  QUIRE_RETURN_IF_ERROR(CheckFree(slot));
  const int64_t num_tokens = admitted.tokens.size();
  // A last sampled token may sit beyond the window; it is never computed.
  if (num_tokens < 1 || num_tokens > limits_.max_model_len + 1) {
    return Contradiction(slot, num_tokens, " tokens, the window is ",
                         limits_.max_model_len);
  }
  for (TokenId token : admitted.tokens) {
    QUIRE_RETURN_IF_ERROR(CheckToken(slot, token));
  }
  if (admitted.num_computed_tokens < 0 ||
      admitted.num_computed_tokens >= num_tokens) {
    return Contradiction(slot, admitted.num_computed_tokens, " computed of ",
                         num_tokens, " tokens");
  }
  Slot& state = slots_[slot.value()];
  state.is_alive = true;
  state.tenancy = ++last_tenancy_;
  state.sequence_id = admitted.sequence_id;
  state.tokens.assign(admitted.tokens.begin(), admitted.tokens.end());
  state.num_prompt = admitted.num_prompt_tokens;
  state.num_computed = admitted.num_computed_tokens;
  state.sampling = admitted.sampling;
  for (TokenId token : admitted.sampling.allowed_token_ids) {
    QUIRE_RETURN_IF_ERROR(CheckToken(slot, token));
  }
  state.allowed = WordsOf(admitted.sampling.allowed_token_ids);
  state.masked_position = -1;
  ResetCounts(&state);
  state.num_blocks = 0;
  if (const auto* row = std::get_if<CacheRowId>(&admitted.cache)) {
    return Append(slot, row->value());
  }
  for (BlockId block : std::get<std::vector<BlockId>>(admitted.cache)) {
    QUIRE_RETURN_IF_ERROR(Append(slot, block.value()));
  }
  return absl::OkStatus();
}

absl::Status SlotStates::Replace(const ReplacedBlock& replaced) {
  const SlotId slot = replaced.slot;
  QUIRE_RETURN_IF_ERROR(CheckAlive(slot));
  QUIRE_RETURN_IF_ERROR(CheckBlock(slot, replaced.block.value()));
  const int32_t num_blocks = slots_[slot.value()].num_blocks;
  if (replaced.logical_idx < 0 || replaced.logical_idx >= num_blocks) {
    return Contradiction(slot, "replaces block ", replaced.logical_idx, " of ",
                         num_blocks);
  }
  digest_.Toggle(slot, replaced.logical_idx,
                 block_table(slot)[replaced.logical_idx]);
  SetEntry(slot, replaced.logical_idx, replaced.block.value());
  return absl::OkStatus();
}

absl::Status SlotStates::Append(SlotId slot, int32_t block) {
  QUIRE_RETURN_IF_ERROR(CheckBlock(slot, block));
  Slot& state = slots_[slot.value()];
  if (state.num_blocks == max_blocks_per_seq_) {
    return Contradiction(slot, "its table is full with ", max_blocks_per_seq_,
                         " blocks");
  }
  SetEntry(slot, state.num_blocks++, block);
  return absl::OkStatus();
}

absl::Status SlotStates::SetMask(const SlotMask& mask) {
  QUIRE_RETURN_IF_ERROR(CheckAlive(mask.slot));
  Slot& state = slots_[mask.slot.value()];
  if (!state.sampling.needs_mask) {
    return Contradiction(mask.slot, "is given a mask and needs none");
  }
  state.allowed = mask.words;
  state.masked_position = state.num_tokens();
  return absl::OkStatus();
}

void SlotStates::SetEntry(SlotId slot, int32_t logical_idx, int32_t block) {
  tables_[RowStart(slot) + logical_idx] = block;
  digest_.Toggle(slot, logical_idx, block);
  int32_t& idx = changed_idx_[slot.value()];
  if (idx < 0) {
    idx = static_cast<int32_t>(changed_.size());
    changed_.push_back({slot.value(), logical_idx, logical_idx + 1});
    return;
  }
  ChangedRow& row = changed_[idx];
  row.begin = std::min(row.begin, logical_idx);
  row.end = std::max(row.end, logical_idx + 1);
}

void SlotStates::ClearChanges() {
  for (const ChangedRow& row : changed_) changed_idx_[row.slot] = -1;
  changed_.clear();
}

void SlotStates::ResetCounts(Slot* slot) {
  slot->counts.Clear();
  slot->counts_version = ++last_counts_;
  if (!TokenCounts::IsNeeded(slot->sampling)) return;
  slot->counts.Reset(slot->tokens, slot->num_prompt);
}

void SlotStates::AdvanceComputed(Slot* slot, int32_t num_tokens) {
  slot->num_computed += num_tokens;
  DCHECK_LE(slot->num_computed, slot->num_tokens());
}

void SlotStates::Advance(const StepPlan& plan,
                         std::vector<UnknownToken>* unknown) {
  const auto append = [&](SlotId slot_id) {
    Slot& slot = slots_[slot_id.value()];
    unknown->push_back({slot_id.value(), slot.num_tokens(), slot.tenancy});
    slot.tokens.push_back(kUnknownToken);
  };
  for (SlotId slot : plan.decodes) {
    AdvanceComputed(&slots_[slot.value()], 1);
    append(slot);
  }
  for (const Slice& slice : plan.chunks) {
    AdvanceComputed(&slots_[slice.slot.value()], slice.num_tokens);
    if (slice.sample) append(slice.slot);
  }
}

void SlotStates::Fill(absl::Span<const UnknownToken> unknown,
                      absl::Span<const TokenId> tokens) {
  CHECK_EQ(unknown.size(), tokens.size());
  for (size_t i = 0; i < unknown.size(); ++i) {
    Slot& slot = slots_[unknown[i].slot];
    if (!slot.is_alive || slot.tenancy != unknown[i].tenancy) continue;
    slot.tokens[unknown[i].token_idx] = tokens[i];
    if (TokenCounts::IsNeeded(slot.sampling)) slot.counts.AddOutput(tokens[i]);
  }
}

void SlotStates::Commit(const StepPlan& plan,
                        absl::Span<const TokenId> tokens) {
  unknown_.clear();
  Advance(plan, &unknown_);
  Fill(unknown_, tokens);
}

}  // namespace quire
