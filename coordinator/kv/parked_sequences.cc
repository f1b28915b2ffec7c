// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/parked_sequences.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"

namespace quire {

ParkedBlockId ParkedSequences::AddBlock(BlockPlace place, int32_t num_rows,
                                        bool may_swap) {
  ParkedBlockId id(max_blocks());
  if (dead_.empty()) {
    blocks_.emplace_back();
  } else {
    id = dead_.back();
    dead_.pop_back();
  }
  blocks_[id.value()] = {.place = place,
                         .num_notes = 1,
                         .num_rows = num_rows,
                         .may_swap = may_swap};
  return id;
}

void ParkedSequences::AddNote(ParkedBlockId block, int32_t num_rows,
                              bool may_swap) {
  Block& parked = blocks_[block.value()];
  CHECK_GT(parked.num_notes, 0);
  ++parked.num_notes;
  parked.num_rows = std::max(parked.num_rows, num_rows);
  parked.may_swap |= may_swap;
}

bool ParkedSequences::DropNote(ParkedBlockId block) {
  Block& parked = blocks_[block.value()];
  CHECK_GT(parked.num_notes, 0);
  if (--parked.num_notes > 0) return false;
  dead_.push_back(block);
  return true;
}

const ParkedSequence* ParkedSequences::Find(SequenceId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : &it->second;
}

void ParkedSequences::Insert(SequenceId id, ParkedSequence sequence) {
  CHECK(sequences_.emplace(id, std::move(sequence)).second)
      << "sequence " << id << " is parked already";
}

ParkedSequence ParkedSequences::Take(SequenceId id) {
  auto node = sequences_.extract(id);
  CHECK(!node.empty()) << "sequence " << id << " is not parked";
  return std::move(node.mapped());
}

}  // namespace quire
