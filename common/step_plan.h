// SPDX-License-Identifier: Apache-2.0
//
// The spine: everything one iteration needs, by value, and what it yields.
//
// A plan is a delta. A worker mirrors, per slot, the sequence's tokens, how
// many of them are computed, and its block table; a plan says what changes and
// then which tokens to run. Token values of decodes are not sent: each rank
// appends what it sampled itself. So the coordinator may plan step n + 1 before
// it knows the tokens of step n (run-ahead): it needs lengths, not values.
//
// A worker applies a plan's parts in this order, all before any token runs:
//   resync, released, forks, next_tokens, admitted, replaced, appended,
//   mappings, swap_outs, swap_ins, copies, masks
// Plans run strictly in order, so a block that this plan takes from one slot
// may be given to another in the same plan.
#ifndef COMMON_STEP_PLAN_H_
#define COMMON_STEP_PLAN_H_

#include <cstdint>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/sampling_params.h"

namespace quire {

// Who commands, and which iteration. Workers refuse a lower coordinator epoch,
// another group epoch, and any step but the last one plus one.
struct StepIdentity {
  Epoch coordinator_epoch;
  Epoch group_epoch;
  StepId step_id;

  friend bool operator==(const StepIdentity&, const StepIdentity&) = default;
};

// Where a sequence's keys and values are: blocks in logical order, or one row
// of a contiguous (reserved, virtual) cache.
using CachePlacement = std::variant<std::vector<BlockId>, CacheRowId>;

// A sequence takes a free slot: new, re-admitted after preemption, or restated
// by a resync.
struct AdmittedSlot {
  SlotId slot;
  SequenceId sequence_id;
  std::vector<TokenId> tokens;      // prompt, then output tokens so far
  int32_t num_prompt_tokens = 0;    // of `tokens`
  int32_t num_computed_tokens = 0;  // already in the cache, [0, tokens.size())
  SlotSampling sampling;
  CachePlacement cache;

  friend bool operator==(const AdmittedSlot&, const AdmittedSlot&) = default;
};

// `child` becomes a copy of `parent`'s state after its first `num_tokens`
// tokens, of which at most num_tokens - 1 count as computed, so that it can
// sample; it shares the blocks needed to hold its computed tokens.
struct SlotFork {
  SlotId parent;
  SlotId child;
  SequenceId child_sequence_id;
  uint64_t child_seed = 0;
  int32_t num_tokens = 0;

  friend bool operator==(const SlotFork&, const SlotFork&) = default;
};

// The slot's last token, which is not computed yet, is `token` instead: a beam
// goes on with another token than its rank sampled. Not sampled, so not part of
// a token digest: every rank has it from the same plan.
struct NextToken {
  SlotId slot;
  TokenId token = 0;

  friend bool operator==(const NextToken&, const NextToken&) = default;
};

// Logical block `logical_idx` of the slot is now `block` (copy-on-write).
struct ReplacedBlock {
  SlotId slot;
  int32_t logical_idx = 0;
  BlockId block;

  friend bool operator==(const ReplacedBlock&, const ReplacedBlock&) = default;
};

// `block` joins the end of the slot's table.
struct AppendedBlock {
  SlotId slot;
  BlockId block;

  friend bool operator==(const AppendedBlock&, const AppendedBlock&) = default;
};

struct BlockCopy {
  BlockId src;
  BlockId dst;

  friend bool operator==(const BlockCopy&, const BlockCopy&) = default;
};

// From this plan on, memory lies behind the first `num_page_groups` page groups
// of a cache row and behind no others (vAttention). A worker may put it there
// before the step that needs it, but takes none away before the steps that came
// earlier have run.
struct RowMapping {
  CacheRowId row;
  int32_t num_page_groups = 0;

  friend bool operator==(const RowMapping&, const RowMapping&) = default;
};

// Between the device pool and the host pool; the list it is in says which way.
struct BlockSwap {
  BlockId device;
  HostBlockId host;

  friend bool operator==(const BlockSwap&, const BlockSwap&) = default;
};

// The tokens that a slot whose sampling needs_mask may sample in this step: bit
// id % 32 of word id / 32; ids beyond the last word may not be. At least one.
struct SlotMask {
  SlotId slot;
  std::vector<uint32_t> words;

  friend bool operator==(const SlotMask&, const SlotMask&) = default;
};

// The next `num_tokens` uncomputed tokens of a slot. If `sample`, they reach
// the end of its tokens and the last one yields an output token.
struct Slice {
  SlotId slot;
  int32_t num_tokens = 0;
  bool sample = false;

  friend bool operator==(const Slice&, const Slice&) = default;
};

struct StepPlan {
  StepIdentity identity;
  bool resync = false;  // forget every slot first; `admitted` restates them
  std::vector<SlotId> released;
  std::vector<SlotFork> forks;
  std::vector<NextToken> next_tokens;
  std::vector<AdmittedSlot> admitted;
  std::vector<ReplacedBlock> replaced;
  std::vector<AppendedBlock> appended;
  std::vector<RowMapping> mappings;  // in order: groups are freed, then given
  std::vector<BlockSwap> swap_outs;
  std::vector<BlockSwap> swap_ins;
  std::vector<BlockCopy> copies;
  // Of every slot below that samples and needs one.
  std::vector<SlotMask> masks;
  // Slots that compute one token and sample, then all other slices. Results
  // come in this order: every decode, then every chunk with `sample`.
  std::vector<SlotId> decodes;
  std::vector<Slice> chunks;

  friend bool operator==(const StepPlan&, const StepPlan&) = default;
};

struct TopLogprob {
  TokenId token_id = 0;
  float logprob = 0;

  friend bool operator==(const TopLogprob&, const TopLogprob&) = default;
};

// Natural logarithms of the model's own probabilities (before temperature,
// penalties and filters).
struct SampledLogprobs {
  int32_t sample_idx = 0;       // into StepResult::tokens
  float logprob = 0;            // of the sampled token
  int32_t rank = 0;             // 1: the likeliest of the vocabulary
  std::vector<TopLogprob> top;  // descending

  friend bool operator==(const SampledLogprobs&,
                         const SampledLogprobs&) = default;
};

// Of consecutive prompt tokens of one sequence, each given those before it.
struct PromptLogprobs {
  SequenceId sequence_id;
  int32_t first_token = 0;  // index of the first in the prompt, >= 1
  // sample_idx counts from first_token; `rank` and `top` as above.
  std::vector<SampledLogprobs> tokens;

  friend bool operator==(const PromptLogprobs&,
                         const PromptLogprobs&) = default;
};

struct StepResult {
  StepIdentity identity;
  std::vector<TokenId> tokens;  // one per sampling slice, in plan order
  std::vector<SampledLogprobs> logprobs;  // of slots that asked, by sample_idx
  // Of the prompt tokens that follow those which this step computed, of slots
  // that asked; in the plan's order.
  std::vector<PromptLogprobs> prompt_logprobs;
  // See common/digest.h. Equal on every rank, or the group has diverged.
  uint64_t token_digest = 0;
  uint64_t table_digest = 0;
  // To the tokens' being known from the receipt of the plan, or from the end of
  // the step before where that came later.
  int32_t step_us = 0;

  friend bool operator==(const StepResult&, const StepResult&) = default;
};

}  // namespace quire

#endif  // COMMON_STEP_PLAN_H_
