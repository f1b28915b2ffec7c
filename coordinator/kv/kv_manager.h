// SPDX-License-Identifier: Apache-2.0
//
// Where sequences keep their keys and values, as the engine sees it: a slot is
// given room when it is admitted, grows, forks, and gives everything back.
// Paged, reserved and virtual memory differ behind this interface only.
//
// What a policy must know to plan without asking is arithmetic: a sequence that
// holds `b` blocks and shall hold `t` tokens takes max(0, ceil(t / block_size)
// - b) blocks more, and one more if it must copy a shared last block first. A
// manager that reserves says so through AdmissionTokens(): growth is then free
// because the blocks are held already.
#ifndef COORDINATOR_KV_KV_MANAGER_H_
#define COORDINATOR_KV_KV_MANAGER_H_

#include <array>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/step_plan.h"

namespace quire {

class PrefixSummary;

struct KvOptions {
  int32_t num_blocks = 0;
  int32_t block_size = 16;  // tokens
  int32_t max_num_seqs = 0;
  int32_t max_model_len = 0;    // tokens
  int32_t num_host_blocks = 0;  // to swap into
  // Cached prefixes whose blocks are needed move to host blocks that no parked
  // sequence wants, rather than be lost. Each costs a copy that perhaps nobody
  // asks for.
  bool demote_prefixes = false;
  // Of the hash by which prefixes are found. Zeros: drawn once a process. No
  // decision depends on it.
  std::array<uint64_t, 2> prefix_hash_key = {};
  // Told which prefixes there are, if not null. Borrowed.
  PrefixSummary* prefix_summary = nullptr;
};

// Every block is in exactly one of the three states.
struct KvUsage {
  int32_t num_blocks = 0;
  int32_t num_free = 0;
  // Held by nobody, but with contents that may be wanted again: prefixes, and
  // what preempted sequences left behind. Taken when needed.
  int32_t num_cached = 0;
  int32_t num_held = 0;
  int32_t num_host_blocks = 0;
  int32_t num_free_host_blocks = 0;
  // Used ones that hold nothing but prefixes: a swap may take them.
  int32_t num_host_prefix_blocks = 0;
};

// Who may find whose prefixes: sequences of the same scope. 0: nobody's.
using CacheScope = uint64_t;

// What a sequence asks for when it takes a slot.
struct KvAdmission {
  SequenceId sequence_id = {};
  absl::Span<const TokenId> tokens;  // all that are known
  // This step computes so many after those that are found computed.
  int32_t num_new_tokens = 0;
  int32_t max_num_tokens = 0;  // the longest that it may become
  CacheScope scope = 0;
  // Tokens that its attention looks back on, its own included; 0: all. What
  // lies before them need not be found.
  int32_t window = 0;
  // Of `tokens`: whoever has these first ones computes the same for them. What
  // comes later is found only if it is the sequence's own.
  int32_t num_common_tokens = std::numeric_limits<int32_t>::max();
};

// What an admission would find of its sequence, if it came now.
struct KvReuse {
  int32_t num_computed_tokens = 0;  // [0, tokens.size() - 1]
  // Blocks among those that cost no free block, because others hold them or
  // the attention window has left them behind.
  int32_t num_held_blocks = 0;
};

// A block, and how many slots hold it.
struct BlockHolders {
  BlockId block = BlockId(-1);
  int32_t num_slots = 0;
};

// What becomes of the contents that a preempted sequence leaves behind once
// its blocks are needed for others.
enum class ParkMode {
  kDrop,    // at once: everything is computed anew
  kRetain,  // lost from the tail on, as far as needed; the rest is computed
            // anew
  kSwap,    // moved to host blocks as far as needed, while there are any
};

// Engine thread only. Slots are [0, max_num_seqs).
//
// Calls for one plan come in the order of the plan's parts: those that give
// blocks up (Release, Park, DropBefore), Fork, then Admit, Grow and Publish.
// What a slot gives up was computed by earlier plans.
class KvManager {
 public:
  virtual ~KvManager() = default;

  virtual int32_t block_size() const = 0;

  // Whether an admission takes all that the sequence may ever need, so that
  // Grow is never refused and nobody need be preempted.
  virtual bool reserves() const { return false; }

  // Tokens that a sequence of `num_tokens` known tokens, which may become
  // `max_num_tokens` long, is given room for when it is admitted, whatever its
  // first step computes. 0: only what it computes.
  virtual int32_t AdmissionTokens(int32_t num_tokens,
                                  int32_t max_num_tokens) const = 0;

  // What Admit would find; costs a lookup a block at most. For a policy's
  // arithmetic, and no promise.
  virtual KvReuse FindReusable(const KvAdmission& /*admission*/) const {
    return {};
  }

  // Gives an empty slot its first room and fills in `admitted->cache` and, of
  // what was parked or is cached, `admitted->num_computed_tokens`: at most
  // tokens.size() - 1. Block moves that this takes are written into `plan`.
  // The sequence is parked no more. ResourceExhausted: nothing was taken,
  // nothing written, and it still is. REQUIRES: the slot holds nothing.
  virtual absl::Status Admit(SlotId slot, const KvAdmission& admission,
                             AdmittedSlot* admitted, StepPlan* plan) = 0;

  // Full blocks of the first `num_computed` of the slot's known `tokens` may
  // from now on be found by others of its scope. They may be computed by the
  // plan that is being made: within a step, every layer writes before it reads.
  virtual void Publish(SlotId /*slot*/, absl::Span<const TokenId> /*tokens*/,
                       int32_t /*num_computed*/) {}

  // Gives the slot back as Release does, but so that an Admit of the same
  // sequence finds what is left of its first `num_computed` tokens. Forget()
  // ends that without an Admit. REQUIRES: it is not parked yet.
  virtual void Park(SlotId slot, SequenceId /*sequence*/,
                    int32_t /*num_computed*/, ParkMode /*mode*/) {
    Release(slot);
  }
  virtual void Forget(SequenceId /*sequence*/) {}
  // Forgets every parked sequence and every prefix: for when nobody can say
  // any more what lies in a block.
  virtual void ForgetAll() {}

  // No step from the plan being made on reads tokens before `num_tokens` of the
  // slot: its attention window has left them behind. Blocks that hold no others
  // are given back at once. The table keeps their entries, which nobody reads,
  // so workers need not be told. Memory that is contiguous (reserved, virtual)
  // stays whole: nothing is given back.
  virtual void DropBefore(SlotId /*slot*/, int32_t /*num_tokens*/) {}
  // Whether DropBefore does anything.
  virtual bool can_drop() const { return false; }

  // Makes room to write tokens [num_computed, num_computed + num_new) of the
  // slot, and writes what the workers must be told into `plan`. A shared block
  // that would be written is replaced by a copy. ResourceExhausted: nothing
  // was taken and nothing written.
  virtual absl::Status Grow(SlotId slot, int32_t num_computed, int32_t num_new,
                            StepPlan* plan) = 0;

  // Whether MapAhead does anything.
  virtual bool maps_ahead() const { return false; }

  // The steps after the plan being made will probably write the slot's tokens
  // up to `num_tokens`: whatever can be readied for them without taking
  // anything from those that run is. The slot holds no more than before.
  virtual void MapAhead(SlotId /*slot*/, int32_t /*num_tokens*/,
                        StepPlan* /*plan*/) {}

  // `child` shares what holds the first `num_tokens` tokens of `parent`.
  // The caller writes the SlotFork. REQUIRES: child holds nothing, parent
  // holds that much, and can_fork().
  virtual void Fork(SlotId parent, SlotId child, int32_t num_tokens) = 0;
  virtual bool can_fork() const { return true; }

  // Gives back everything the slot holds. May be given to another slot in the
  // same plan that releases it.
  virtual void Release(SlotId slot) = 0;

  virtual int32_t NumBlocks(SlotId slot) const = 0;

  // Blocks of the slots that nobody else holds: those that come back when they
  // are all released.
  virtual int32_t NumPrivateBlocks(absl::Span<const SlotId> slots) const = 0;

  // Whether Grow must be asked before token `num_computed` is written, room or
  // not: somebody else holds or may ask for what is there, so that it may copy
  // a block first.
  virtual bool MustCopy(SlotId slot, int32_t num_computed) const = 0;

  // Who holds the block that token `num_computed` of the slot is written to: it
  // is copied as long as there are several. Nobody, if it has none yet or such
  // blocks are never shared.
  virtual BlockHolders HoldersOf(SlotId /*slot*/,
                                 int32_t /*num_computed*/) const {
    return {};
  }

  // Restates where the slot's cache is.
  virtual CachePlacement Placement(SlotId slot) const = 0;

  virtual KvUsage Usage() const = 0;

  // Of all block tables, as the workers will have them after the plan that
  // carries every change so far. See common/digest.h.
  virtual uint64_t table_digest() const = 0;

  // Internal, with numbers, unless free + cached + held == total and every
  // reference count equals its owners. Costs a pass over all blocks.
  virtual absl::Status CheckInvariants() const = 0;
};

}  // namespace quire

#endif  // COORDINATOR_KV_KV_MANAGER_H_
