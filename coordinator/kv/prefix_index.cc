// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/prefix_index.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {

PrefixIndex::PrefixIndex(int32_t block_size, int32_t num_blocks,
                         const HashKey& hash_key, PrefixSummary* summary)
    : block_size_(block_size),
      hash_key_(hash_key),
      summary_(summary),
      // At most half full, so that most chains are one long.
      buckets_(std::bit_ceil(static_cast<uint32_t>(2 * num_blocks + 1)),
               kNoNode) {
  CHECK_GT(block_size, 0);
  nodes_.reserve(num_blocks);
  tokens_.reserve(int64_t{num_blocks} * block_size);
  if (summary != nullptr) summary->Reset(num_blocks);
}

BlockKey PrefixIndex::KeyOf(CacheScope scope, PrefixNodeId parent,
                            absl::Span<const TokenId> tokens) const {
  return ChainKey(
      hash_key_,
      parent == kNoNode ? ScopeKey(hash_key_, scope) : At(parent).key, tokens);
}

PrefixNodeId PrefixIndex::FindByKey(const BlockKey& key, CacheScope scope,
                                    PrefixNodeId parent,
                                    absl::Span<const TokenId> tokens) const {
  PrefixNodeId id = Bucket(key);
  while (id != kNoNode) {
    const Node& node = At(id);
    if (node.key == key && node.scope == scope && node.parent == parent &&
        std::equal(tokens.begin(), tokens.end(), Tokens(id).begin())) {
      return id;
    }
    id = node.next;
  }
  return kNoNode;
}

PrefixNodeId PrefixIndex::FindLikely(PrefixNodeId parent,
                                     absl::Span<const TokenId> tokens) const {
  if (parent == kNoNode) return kNoNode;
  const PrefixNodeId child = At(parent).child;
  if (child == kNoNode ||
      !std::equal(tokens.begin(), tokens.end(), Tokens(child).begin())) {
    return kNoNode;
  }
  return child;
}

PrefixNodeId PrefixIndex::Find(CacheScope scope, PrefixNodeId parent,
                               absl::Span<const TokenId> tokens) const {
  DCHECK_EQ(tokens.size(), block_size_);
  const PrefixNodeId likely = FindLikely(parent, tokens);
  if (likely != kNoNode) return likely;
  return FindByKey(KeyOf(scope, parent, tokens), scope, parent, tokens);
}

PrefixNodeId PrefixIndex::FindOrInsert(CacheScope scope, PrefixNodeId parent,
                                       absl::Span<const TokenId> tokens) {
  CHECK_EQ(tokens.size(), block_size_);
  const PrefixNodeId likely = FindLikely(parent, tokens);
  if (likely != kNoNode) {
    Pin(likely);
    return likely;
  }
  const BlockKey key = KeyOf(scope, parent, tokens);
  const PrefixNodeId found = FindByKey(key, scope, parent, tokens);
  if (found != kNoNode) {
    if (parent != kNoNode) At(parent).child = found;
    Pin(found);
    return found;
  }
  PrefixNodeId id = dead_;
  if (id != kNoNode) {
    dead_ = At(id).next;
  } else {
    id = PrefixNodeId(max_nodes());
    nodes_.emplace_back();
    tokens_.resize(tokens_.size() + block_size_);
  }
  if (++num_nodes_ > static_cast<int32_t>(buckets_.size() / 2)) GrowBuckets();
  std::copy(tokens.begin(), tokens.end(),
            tokens_.begin() + int64_t{id.value()} * block_size_);
  PrefixNodeId& bucket = Bucket(key);
  At(id) = {.key = key,
            .scope = scope,
            .parent = parent,
            .next = bucket,
            .child = kNoNode,
            .place = BlockPlace(),
            .num_pins = 1};
  bucket = id;
  Pin(parent);
  if (parent != kNoNode) At(parent).child = id;
  return id;
}

void PrefixIndex::GrowBuckets() {
  buckets_.assign(2 * buckets_.size(), kNoNode);
  for (int32_t i = 0; i < max_nodes(); ++i) {
    Node& node = nodes_[i];
    if (node.num_pins == kDead) continue;
    PrefixNodeId& bucket = Bucket(node.key);
    node.next = bucket;
    bucket = PrefixNodeId(i);
  }
}

void PrefixIndex::Pin(PrefixNodeId node) {
  if (node == kNoNode) return;
  CHECK(is_alive(node));
  ++At(node).num_pins;
}

void PrefixIndex::Unpin(PrefixNodeId node) {
  if (node == kNoNode) return;
  CHECK_GT(At(node).num_pins, 0);
  --At(node).num_pins;
  EraseUnkept(node);
}

void PrefixIndex::SetPlace(PrefixNodeId node, BlockPlace place) {
  CHECK(is_alive(node));
  const bool had_place = !At(node).place.is_nowhere();
  At(node).place = place;
  if (summary_ != nullptr && had_place == place.is_nowhere()) {
    if (had_place) {
      summary_->Remove(At(node).key);
    } else {
      summary_->Add(At(node).key);
    }
  }
  EraseUnkept(node);
}

void PrefixIndex::EraseUnkept(PrefixNodeId id) {
  while (id != kNoNode && At(id).num_pins == 0 && At(id).place.is_nowhere()) {
    Node& node = At(id);
    PrefixNodeId* link = &Bucket(node.key);
    while (*link != id) link = &At(*link).next;
    *link = node.next;
    node.next = dead_;
    node.num_pins = kDead;
    dead_ = id;
    --num_nodes_;
    const PrefixNodeId child = std::exchange(id, node.parent);
    if (id == kNoNode) return;
    if (At(id).child == child) At(id).child = kNoNode;
    --At(id).num_pins;
  }
}

absl::Status PrefixIndex::CheckInvariants(
    absl::Span<const int32_t> num_outer_pins) const {
  std::vector<int32_t> num_pins(num_outer_pins.begin(), num_outer_pins.end());
  num_pins.resize(nodes_.size());
  int32_t num_alive = 0;
  for (const Node& node : nodes_) {
    if (node.num_pins == kDead) continue;
    ++num_alive;
    if (node.parent != kNoNode) ++num_pins[node.parent.value()];
  }
  if (num_alive != num_nodes_) {
    return absl::InternalError(absl::StrCat(
        num_alive, " prefix nodes are alive, ", num_nodes_, " are counted"));
  }
  for (int32_t i = 0; i < max_nodes(); ++i) {
    const Node& node = nodes_[i];
    if (node.num_pins == kDead) continue;
    if (node.num_pins != num_pins[i]) {
      return absl::InternalError(absl::StrCat("prefix node ", i, " has ",
                                              node.num_pins, " pins but ",
                                              num_pins[i], " owners"));
    }
    if (node.num_pins == 0 && node.place.is_nowhere()) {
      return absl::InternalError(absl::StrCat("nothing keeps prefix node ", i));
    }
    const PrefixNodeId id(i);
    const bool child_is_one =
        node.child == kNoNode ||
        (is_alive(node.child) && At(node.child).parent == id);
    if (!child_is_one || FindByKey(KeyOf(node.scope, node.parent, Tokens(id)),
                                   node.scope, node.parent, Tokens(id)) != id) {
      return absl::InternalError(absl::StrCat(
          "prefix node ", i, " is not found, or has a wrong child"));
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
