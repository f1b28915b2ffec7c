// SPDX-License-Identifier: Apache-2.0
//
// What must hold of a BlockStore between any two calls.
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/kv/block_store.h"

namespace quire {
namespace {

std::string Describe(BlockPlace place) {
  if (place.is_nowhere()) return "nowhere";
  return place.is_device()
             ? absl::StrCat("in KV block ", place.device().value())
             : absl::StrCat("in host block ", place.host().value());
}

}  // namespace

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
  const auto agrees = [this](const Contents& contents, BlockPlace place) {
    const bool node_agrees =
        contents.node == kNoNode || (index_.is_alive(contents.node) &&
                                     index_.place(contents.node) == place);
    const bool parked_agrees = contents.parked == kNotParked ||
                               (parked_.num_notes(contents.parked) > 0 &&
                                parked_.place(contents.parked) == place);
    return node_agrees && parked_agrees;
  };
  int32_t num_nodes = 0;
  int32_t num_parked = 0;
  const auto count = [&](const Contents& contents) {
    num_nodes += contents.node != kNoNode;
    num_parked += contents.parked != kNotParked;
  };
  for (int32_t i = 0; i < pool_.num_blocks(); ++i) {
    const BlockId block(i);
    const Contents& contents = device_[i];
    count(contents);
    const bool is_free = pool_.num_refs(block) == 0 && !pool_.is_cached(block);
    if (!agrees(contents, BlockPlace(block)) ||
        (is_free && contents.is_wanted()) ||
        (contents.is_wanted() &&
         contents.generation != pool_.generation(block)) ||
        (pool_.is_cached(block) &&
         (!contents.is_wanted() || pool_.rank(block) != contents.rank()))) {
      return absl::InternalError(
          absl::StrCat("KV block ", i, " is kept by what is elsewhere"));
    }
  }
  for (int32_t i = 0; i < host_pool_.num_blocks(); ++i) {
    const HostBlockId block(i);
    count(host_[i]);
    if (!agrees(host_[i], BlockPlace(block)) ||
        host_[i].is_wanted() == host_pool_.is_free(block) ||
        host_pool_.is_free(block) == host_pool_.is_listed(block)) {
      return absl::InternalError(
          absl::StrCat("host block ", i, " is kept by what is elsewhere"));
    }
  }
  // As many the other way round: nothing has a place that does not know of it.
  for (int32_t i = 0; i < index_.max_nodes(); ++i) {
    const PrefixNodeId node(i);
    if (!index_.is_alive(node)) continue;
    num_nodes -= !index_.place(node).is_nowhere();
  }
  for (int32_t i = 0; i < parked_.max_blocks(); ++i) {
    const ParkedBlockId block(i);
    if (parked_.num_notes(block) == 0) continue;
    const BlockPlace place = parked_.place(block);
    num_parked -= !place.is_nowhere();
    if (num_parked < 0) {
      return absl::InternalError(absl::StrCat("parked block ", i, " is ",
                                              Describe(place), " by mistake"));
    }
  }
  if (num_nodes != 0 || num_parked != 0) {
    return absl::InternalError(
        absl::StrCat(num_nodes, " prefix nodes and ", num_parked,
                     " parked blocks more are named by blocks than name them"));
  }
  return absl::OkStatus();
}

}  // namespace quire
