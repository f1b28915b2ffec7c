// SPDX-License-Identifier: Apache-2.0
//
// A rank's mirror of the running sequences: tokens, progress, sampling and
// block tables by slot, kept true by the deltas of step plans.
#ifndef WORKER_BATCH_SLOT_STATE_H_
#define WORKER_BATCH_SLOT_STATE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "worker/batch/token_counts.h"

namespace quire {

struct SlotLimits {
  int32_t max_num_seqs = 0;   // slots
  int32_t max_model_len = 0;  // tokens whose K and V a sequence may have
  int32_t block_size = 0;     // tokens
  int32_t num_blocks = 0;     // of the device pool
  int32_t num_host_blocks = 0;
  int32_t vocab_size = 0;
  int32_t sparse_pages = 0;  // see StepLimits
};

// A token that is being sampled and not known yet.
inline constexpr TokenId kUnknownToken = -1;

// Where it goes when it is known.
struct UnknownToken {
  int32_t slot;
  int32_t token_idx;
  uint64_t tenancy;
};

// One seat. A dead slot's other fields mean nothing.
struct Slot {
  bool is_alive = false;
  SequenceId sequence_id;
  std::vector<TokenId> tokens;  // prompt, then outputs
  int32_t num_prompt = 0;
  int32_t num_computed = 0;  // [0, tokens.size()]
  int32_t num_blocks = 0;    // entries of the slot's table row
  SlotSampling sampling;
  TokenCounts counts;  // kept only if a penalty is set
  // Of all counts that any slot began with, which these go on from; sampled
  // tokens do not change it.
  uint64_t counts_version = 0;
  // What may be sampled, as a SlotMask's words; empty: all. If sampling
  // needs_mask, it holds for the token at masked_position alone.
  std::vector<uint32_t> allowed;
  int32_t masked_position = -1;
  uint64_t tenancy = 0;  // of all slots' sequences, which one this is

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_uncomputed() const { return num_tokens() - num_computed; }
};

// Thread-compatible; the executor thread is the sole caller. A steady decode
// allocates only when a slot's token list doubles; admission allocates.
class SlotStates {
 public:
  explicit SlotStates(const SlotLimits& limits);

  // Applies the plan's changes in the order that common/step_plan.h gives,
  // up to but not including the moves of block contents (kv/kv_cache).
  // Internal if the plan contradicts this state: says what; the state is then
  // undefined and the epoch over.
  absl::Status Apply(const StepPlan& plan);

  // What was planned has run: `tokens` are the sampled ones, in plan order.
  // REQUIRES: the plan was applied and built (input_builder checks slices).
  void Commit(const StepPlan& plan, absl::Span<const TokenId> tokens);

  // The same in two parts, for a step that has been enqueued: its slots are as
  // if it had run, but for the tokens that it samples, which are kUnknownToken.
  // Appends where they go to `unknown`, in plan order.
  void Advance(const StepPlan& plan, std::vector<UnknownToken>* unknown);
  // What was unknown is `tokens`; sequences that are gone are passed over.
  void Fill(absl::Span<const UnknownToken> unknown,
            absl::Span<const TokenId> tokens);

  // Internal unless the slot is alive.
  absl::Status CheckAlive(SlotId slot) const;
  // REQUIRES: in range.
  const Slot& slot(SlotId slot) const { return slots_[slot.value()]; }

  const SlotLimits& limits() const { return limits_; }
  int32_t max_blocks_per_seq() const { return max_blocks_per_seq_; }

  // [max_num_seqs, max_blocks_per_seq]; entries beyond a slot's num_blocks are
  // whatever was there last. A cache row is a table of that one number.
  const int32_t* block_tables() const { return tables_.data(); }
  absl::Span<const int32_t> block_table(SlotId slot) const {
    return {&tables_[RowStart(slot)],
            static_cast<size_t>(slots_[slot.value()].num_blocks)};
  }
  uint64_t table_digest() const { return digest_.value(); }

  // Entries of a row changed since the last ClearChanges: [begin, end).
  struct ChangedRow {
    int32_t slot;
    int32_t begin;
    int32_t end;
  };
  const std::vector<ChangedRow>& changed_rows() const { return changed_; }
  void ClearChanges();

 private:
  int64_t RowStart(SlotId slot) const {
    return int64_t{slot.value()} * max_blocks_per_seq_;
  }
  absl::Status CheckInRange(SlotId slot) const;
  absl::Status CheckFree(SlotId slot) const;
  absl::Status CheckBlock(SlotId slot, int32_t block) const;
  absl::Status CheckToken(SlotId slot, TokenId token) const;
  absl::Status CheckMoves(const StepPlan& plan) const;

  void Clear();
  absl::Status Release(SlotId slot);
  absl::Status Fork(const SlotFork& fork);
  absl::Status SetNextToken(const NextToken& next);
  absl::Status Admit(const AdmittedSlot& admitted);
  absl::Status Replace(const ReplacedBlock& replaced);
  absl::Status Append(SlotId slot, int32_t block);
  absl::Status SetMask(const SlotMask& mask);

  // Writes one entry and notes the change. REQUIRES: in range.
  void SetEntry(SlotId slot, int32_t logical_idx, int32_t block);
  // Counts the slot's tokens anew, if they are wanted.
  void ResetCounts(Slot* slot);
  void AdvanceComputed(Slot* slot, int32_t num_tokens);

  const SlotLimits limits_;
  const int32_t max_blocks_per_seq_;
  std::vector<Slot> slots_;      // [max_num_seqs]
  std::vector<int32_t> tables_;  // [max_num_seqs, max_blocks_per_seq]
  TableDigest digest_;
  std::vector<ChangedRow> changed_;
  std::vector<int32_t> changed_idx_;  // [max_num_seqs] in changed_, or -1
  uint64_t last_tenancy_ = 0;
  uint64_t last_counts_ = 0;
  std::vector<UnknownToken> unknown_;  // Commit's own
};

}  // namespace quire

#endif  // WORKER_BATCH_SLOT_STATE_H_
