// SPDX-License-Identifier: Apache-2.0
//
// The blocks of both pools and what is known of their contents: which of them
// somebody may ask for again, by prefix or because he was preempted, and what
// becomes of them when their block is needed.
//
// Contents have one place. They move from a device block to a host block when
// the device block is taken (SwapOut), and to another device block when they
// are asked for (SwapIn); the prefix node and the parked block that stand for
// them follow.
//
// Moves are written into the plan being made, which workers run as swap-outs,
// swap-ins, copies, computation. For that order to give what the calls mean,
// calls for one plan come in the order of its parts: whatever gives blocks up
// (Drop of released, parked and dropped entries) before whatever takes them.
#ifndef COORDINATOR_KV_BLOCK_STORE_H_
#define COORDINATOR_KV_BLOCK_STORE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/block_place.h"
#include "coordinator/kv/block_pool.h"
#include "coordinator/kv/block_table.h"
#include "coordinator/kv/host_pool.h"
#include "coordinator/kv/kv_manager.h"
#include "coordinator/kv/parked_sequences.h"
#include "coordinator/kv/prefix_index.h"

namespace quire {

// How far a sequence's full blocks are published. Pins its node.
struct PrefixCursor {
  CacheScope scope = 0;
  PrefixNodeId node = PrefixIndex::kNoNode;  // of the last of them
  int32_t num_blocks = 0;
};

// What is there of a sequence that asks for admission.
struct ReusableBlocks {
  int32_t num_computed = 0;  // tokens, [0, tokens.size() - 1]
  int32_t num_blocks = 0;    // of these, the dropped ones included
  int32_t num_dropped = 0;   // had left the attention window
  PrefixCursor cursor;       // not pinned; at most num_blocks
};

// Thread-compatible.
class BlockStore {
 public:
  explicit BlockStore(const KvOptions& options);

  const BlockPool& pool() const { return pool_; }
  const HostPool& host_pool() const { return host_pool_; }
  const PrefixIndex& index() const { return index_; }
  const ParkedSequences& parked() const { return parked_; }

  // A block to write, held once. Evicts the contents of a cached one if none is
  // free. REQUIRES: num_available() > 0.
  BlockId Take(StepPlan* plan);
  // One holder more. REQUIRES: held or cached.
  void Hold(BlockId block);
  // One holder less. The last one leaves it cached if its contents may be asked
  // for, else free.
  void Drop(BlockId block);

  // Whether the contents from token `offset` of the block on may be asked for,
  // so that not even a sole holder may write there.
  bool IsWanted(BlockId block, int32_t offset) const;
  // Gives up what IsWanted() speaks of. REQUIRES: held once.
  void PrepareWrite(BlockId block, int32_t offset);

  // What is there of an admission, block by block into `places`: nowhere for
  // the dropped ones. With a window, the blocks in it suffice. Without `places`
  // it allocates nothing.
  ReusableBlocks FindReusable(const KvAdmission& admission,
                              std::vector<BlockPlace>* places) const;
  // Those of `places` that others hold.
  KvReuse CountReusable(const KvAdmission& admission) const;
  // Takes what was found: device blocks are held once more, host blocks moved
  // to device blocks. `blocks`: one a place; a dropped one is the first live
  // one again. REQUIRES: num_available() suffices.
  void Reuse(absl::Span<const BlockPlace> places, StepPlan* plan,
             std::vector<BlockId>* blocks);

  // Publishes the full blocks of `tokens` up to `num_full`.
  void Publish(absl::Span<const TokenId> tokens, int32_t num_full,
               const BlockTable& table, PrefixCursor* cursor);
  // Copies a cursor, or its first `num_blocks` blocks if it has more.
  PrefixCursor ForkCursor(const PrefixCursor& cursor, int32_t num_blocks);
  void Pin(const PrefixCursor& cursor) { index_.Pin(cursor.node); }
  void Unpin(const PrefixCursor& cursor) { index_.Unpin(cursor.node); }

  // Notes what a sequence leaves behind in the blocks of its table, before the
  // table's blocks are dropped. REQUIRES: it is not parked.
  void Park(SequenceId sequence, int32_t num_computed, const BlockTable& table,
            bool may_swap);
  // Gives back what only the sequence's notes kept. Nothing if not parked.
  void Forget(SequenceId sequence);
  // Forgets every sequence and every prefix.
  void ForgetAll();

  // Internal unless every block is kept by what it should be.
  // `num_owners[block]`: table entries that hold it. `cursors`: all pinned.
  absl::Status CheckInvariants(absl::Span<const int32_t> num_owners,
                               absl::Span<const PrefixCursor> cursors) const;

 private:
  static constexpr PrefixNodeId kNoNode = PrefixIndex::kNoNode;
  static constexpr ParkedBlockId kNotParked = ParkedSequences::kNoBlock;

  // Who may ask for a block's contents.
  struct Contents {
    PrefixNodeId node = kNoNode;
    ParkedBlockId parked = kNotParked;
    uint32_t generation = 0;  // of the device block

    bool is_wanted() const { return node != kNoNode || parked != kNotParked; }
    CacheRank rank() const {
      return parked != kNotParked ? CacheRank::kSurely : CacheRank::kPerhaps;
    }
  };

  int32_t BlocksFor(int32_t num_tokens) const {
    return (num_tokens + options_.block_size - 1) / options_.block_size;
  }
  Contents& At(BlockId block) { return device_[block.value()]; }
  Contents& At(HostBlockId block) { return host_[block.value()]; }
  const Contents& At(BlockId block) const { return device_[block.value()]; }

  // Tells node and parked block where their contents are.
  void SetPlace(const Contents& contents, BlockPlace place);
  // Frees one cached block, moving its contents to the host if they are worth
  // it.
  void Evict(StepPlan* plan);
  // A claimed host block for them, whose own contents are given up if need be.
  std::optional<HostBlockId> FindHostBlock(const Contents& contents,
                                           const StepPlan& plan);
  // Claimed: its contents are lost.
  void LoseContents(HostBlockId host);
  // REQUIRES: claimed.
  BlockId SwapIn(HostBlockId host, StepPlan* plan);
  void Register(PrefixNodeId node, BlockId block);
  void DropNote(ParkedBlockId block);
  // The notes of a sequence that may count `max_computed` tokens as computed,
  // or null if it has none that help.
  const ParkedSequence* FindParked(const KvAdmission& admission,
                                   int32_t max_computed) const;
  BlockPlace NotedPlace(const ParkedSequence& parked, int32_t idx) const {
    return parked_.place(parked.blocks[idx - parked.first_idx]);
  }

  // Visits the place of each block that is there. Blocks before `first_seen`
  // are not looked for and count as dropped.
  template <typename Visit>
  ReusableBlocks Walk(const KvAdmission& admission, int32_t first_seen,
                      const Visit& visit) const;
  // The first block that the admission needs of what is there: where its
  // window begins behind as many computed tokens as can be had.
  int32_t FirstSeenBlock(const KvAdmission& admission) const;

  absl::Status CheckContents() const;
  absl::Status CheckPlaces() const;

  const KvOptions options_;
  BlockPool pool_;
  HostPool host_pool_;
  PrefixIndex index_;
  ParkedSequences parked_;
  std::vector<Contents> device_;  // [num_blocks]
  std::vector<Contents> host_;    // [num_host_blocks]
};

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_STORE_H_
