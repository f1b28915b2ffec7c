// SPDX-License-Identifier: Apache-2.0
//
// What preempted sequences left behind. Each parked sequence has notes, one a
// block; siblings that shared a block have notes of the same parked block, so
// that it moves and comes back once for all of them.
#ifndef COORDINATOR_KV_PARKED_SEQUENCES_H_
#define COORDINATOR_KV_PARKED_SEQUENCES_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"
#include "coordinator/kv/block_place.h"

namespace quire {

// A block that notes name, wherever its contents go.
using ParkedBlockId = StrongId<struct ParkedBlockIdTag, int32_t>;

struct ParkedSequence {
  int32_t num_computed = 0;  // tokens
  // Logical blocks before this one had left the attention window.
  int32_t first_idx = 0;
  std::vector<ParkedBlockId> blocks;  // from first_idx on, in logical order
};

// Thread-compatible.
class ParkedSequences {
 public:
  static constexpr ParkedBlockId kNoBlock{-1};

  // A parked block with one note, of its first `num_rows` tokens.
  ParkedBlockId AddBlock(BlockPlace place, int32_t num_rows, bool may_swap);
  // One note more, which may claim more.
  void AddNote(ParkedBlockId block, int32_t num_rows, bool may_swap);
  // One note less. Returns whether it was the last: the block is then gone.
  bool DropNote(ParkedBlockId block);

  // Nowhere: lost.
  void SetPlace(ParkedBlockId block, BlockPlace place) {
    blocks_[block.value()].place = place;
  }
  BlockPlace place(ParkedBlockId block) const {
    return blocks_[block.value()].place;
  }
  // The most tokens that any note claims, from the block's first on.
  int32_t num_rows(ParkedBlockId block) const {
    return blocks_[block.value()].num_rows;
  }
  // Whether any note wants it moved to the host rather than lost.
  bool may_swap(ParkedBlockId block) const {
    return blocks_[block.value()].may_swap;
  }
  int32_t num_notes(ParkedBlockId block) const {
    return blocks_[block.value()].num_notes;
  }

  // Null if the sequence is not parked. Valid until the next change.
  const ParkedSequence* Find(SequenceId id) const;
  // REQUIRES: not parked.
  void Insert(SequenceId id, ParkedSequence sequence);
  // Its notes become the caller's to drop. REQUIRES: parked.
  ParkedSequence Take(SequenceId id);

  const absl::flat_hash_map<SequenceId, ParkedSequence>& all() const {
    return sequences_;
  }
  // Upper bound of block ids, for walks over all of them; the dead have no
  // notes.
  int32_t max_blocks() const { return static_cast<int32_t>(blocks_.size()); }

 private:
  struct Block {
    BlockPlace place;
    int32_t num_notes = 0;
    int32_t num_rows = 0;
    bool may_swap = false;
  };

  std::vector<Block> blocks_;
  std::vector<ParkedBlockId> dead_;  // to use again
  absl::flat_hash_map<SequenceId, ParkedSequence> sequences_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_PARKED_SEQUENCES_H_
