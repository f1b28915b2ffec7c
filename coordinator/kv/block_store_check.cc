// SPDX-License-Identifier: Apache-2.0
//
// What must hold of a BlockStore between any two calls.
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/kv/block_store.h"

namespace quire {
absl::Status BlockStore::CheckInvariants(
    absl::Span<const int32_t> num_owners,
    absl::Span<const PrefixCursor> cursors) const {
  QUIRE_RETURN_IF_ERROR(pool_.CheckInvariants());
  QUIRE_RETURN_IF_ERROR(host_pool_.CheckInvariants());
  for (int32_t i = 0; i < pool_.num_blocks(); ++i) {
    const int32_t num_refs = pool_.num_refs(BlockId(i));
    if (num_refs != num_owners[i]) {
      return absl::InternalError(absl::StrCat("KV block ", i, " has ", num_refs,
                                              " references but ", num_owners[i],
                                              " owners"));
    }
  }
  std::vector<int32_t> num_pins(index_.max_nodes());
  for (const PrefixCursor& cursor : cursors) {
    if (cursor.node != kNoNode) ++num_pins[cursor.node.value()];
  }
  QUIRE_RETURN_IF_ERROR(index_.CheckInvariants(num_pins));
  std::vector<int32_t> num_notes(parked_.max_blocks());
  for (const auto& [sequence, parked] : parked_.all()) {
    for (ParkedBlockId block : parked.blocks) ++num_notes[block.value()];
  }
  for (int32_t i = 0; i < parked_.max_blocks(); ++i) {
    if (parked_.num_notes(ParkedBlockId(i)) != num_notes[i]) {
      return absl::InternalError(absl::StrCat(
          "parked block ", i, " counts ", parked_.num_notes(ParkedBlockId(i)),
          " notes of ", num_notes[i]));
    }
  }
  return CheckContents();
}

// Nodes, parked blocks and blocks of both pools name each other.
absl::Status BlockStore::CheckContents() const {
  for (int32_t i = 0; i < pool_.num_blocks(); ++i) {
    const BlockId block(i);
    const Contents& contents = device_[i];
    const bool is_free = pool_.num_refs(block) == 0 && !pool_.is_cached(block);
    const bool is_well_cached = contents.is_wanted() && !is_free &&
                                contents.generation == pool_.generation(block);
    if (contents.is_wanted() != is_well_cached ||
        (pool_.is_cached(block) &&
         (!is_well_cached || pool_.rank(block) != contents.rank()))) {
      return absl::InternalError(
          absl::StrCat("KV block ", i, " is kept for nothing, or not kept"));
    }
  }
  for (int32_t i = 0; i < host_pool_.num_blocks(); ++i) {
    const HostBlockId block(i);
    if (host_[i].is_wanted() == host_pool_.is_free(block) ||
        host_[i].is_wanted() != host_pool_.is_listed(block)) {
      return absl::InternalError(
          absl::StrCat("host block ", i, " is kept for nothing, or not kept"));
    }
  }
  return CheckPlaces();
}

absl::Status BlockStore::CheckPlaces() const {
  const auto at = [this](BlockPlace place) {
    return place.is_device() ? device_[place.device().value()]
                             : host_[place.host().value()];
  };
  int32_t num_placed = 0;
  for (int32_t i = 0; i < index_.max_nodes(); ++i) {
    const PrefixNodeId node(i);
    if (!index_.is_alive(node) || index_.place(node).is_nowhere()) continue;
    ++num_placed;
    if (at(index_.place(node)).node != node) {
      return absl::InternalError(
          absl::StrCat("prefix node ", i, " is not where it should be"));
    }
  }
  for (int32_t i = 0; i < parked_.max_blocks(); ++i) {
    const ParkedBlockId block(i);
    if (parked_.num_notes(block) == 0 || parked_.place(block).is_nowhere()) {
      continue;
    }
    ++num_placed;
    if (at(parked_.place(block)).parked != block) {
      return absl::InternalError(
          absl::StrCat("parked block ", i, " is not where it should be"));
    }
  }
  // As many the other way round, so that no block names what is elsewhere.
  for (const auto* all : {&device_, &host_}) {
    for (const Contents& contents : *all) {
      num_placed -= contents.node != kNoNode;
      num_placed -= contents.parked != kNotParked;
    }
  }
  if (num_placed != 0) {
    return absl::InternalError(
        absl::StrCat(-num_placed, " block contents are elsewhere"));
  }
  return absl::OkStatus();
}

}  // namespace quire
