// SPDX-License-Identifier: Apache-2.0
//
// Which full blocks of tokens have been computed, and where their keys and
// values are (the prefix cache): a tree whose paths from a root spell prefixes,
// one block of tokens a node.
//
// A node is found by its key (see block_key.h) and then compared: scope, parent
// and token ids must be equal too. So a collision of keys costs a comparison
// and can do no harm.
#ifndef COORDINATOR_KV_PREFIX_INDEX_H_
#define COORDINATOR_KV_PREFIX_INDEX_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/kv/block_key.h"
#include "coordinator/kv/block_place.h"
#include "coordinator/kv/kv_manager.h"
#include "coordinator/kv/prefix_summary.h"

namespace quire {

// A full block in its place after all those before it.
using PrefixNodeId = StrongId<struct PrefixNodeIdTag, int32_t>;

// Thread-compatible. A node lives as long as it has a place, children or pins;
// one without a place is a gap, and prefixes end before it. Lookups allocate
// nothing.
class PrefixIndex {
 public:
  // The parent of a scope's first blocks, and the answer "not found".
  static constexpr PrefixNodeId kNoNode{-1};

  // REQUIRES: block_size > 0 tokens. `num_blocks`: nodes to expect. Tells
  // `summary`, if there is one, which nodes have a place; borrowed, and emptied
  // first.
  PrefixIndex(int32_t block_size, int32_t num_blocks, const HashKey& hash_key,
              PrefixSummary* summary = nullptr);

  // The node of `tokens` after `parent`, or kNoNode.
  // REQUIRES: block_size tokens.
  PrefixNodeId Find(CacheScope scope, PrefixNodeId parent,
                    absl::Span<const TokenId> tokens) const;

  // Find(), or else a new node without a place. Pinned: the caller Unpin()s it.
  PrefixNodeId FindOrInsert(CacheScope scope, PrefixNodeId parent,
                            absl::Span<const TokenId> tokens);

  // A pinned node stays, and so do its ancestors. kNoNode may be pinned too.
  void Pin(PrefixNodeId node);
  void Unpin(PrefixNodeId node);

  // Says where the node's contents are. Nowhere may end the node.
  void SetPlace(PrefixNodeId node, BlockPlace place);

  BlockPlace place(PrefixNodeId node) const { return At(node).place; }
  PrefixNodeId parent(PrefixNodeId node) const { return At(node).parent; }
  const BlockKey& key(PrefixNodeId node) const { return At(node).key; }

  int32_t num_nodes() const { return num_nodes_; }
  // Upper bound of node ids, for walks over all of them.
  int32_t max_nodes() const { return static_cast<int32_t>(nodes_.size()); }
  bool is_alive(PrefixNodeId node) const { return At(node).num_pins >= 0; }
  int32_t num_pins(PrefixNodeId node) const { return At(node).num_pins; }

  // Internal unless every node is kept by something, can be found, and has
  // as many pins as children and `num_outer_pins[node]` say.
  absl::Status CheckInvariants(absl::Span<const int32_t> num_outer_pins) const;

 private:
  struct Node {
    BlockKey key;
    CacheScope scope = 0;
    PrefixNodeId parent = kNoNode;
    PrefixNodeId next = kNoNode;  // in its bucket, or among the dead
    // Any child, the likeliest to be asked for: one that was asked for last.
    // Found by its tokens alone, without a hash.
    PrefixNodeId child = kNoNode;
    BlockPlace place;
    int32_t num_pins = kDead;  // children too
  };
  static constexpr int32_t kDead = -1;

  Node& At(PrefixNodeId node) { return nodes_[node.value()]; }
  const Node& At(PrefixNodeId node) const { return nodes_[node.value()]; }

  absl::Span<const TokenId> Tokens(PrefixNodeId node) const {
    return {&tokens_[int64_t{node.value()} * block_size_],
            static_cast<size_t>(block_size_)};
  }
  // The parent's likely child, if that has these tokens.
  PrefixNodeId FindLikely(PrefixNodeId parent,
                          absl::Span<const TokenId> tokens) const;
  BlockKey KeyOf(CacheScope scope, PrefixNodeId parent,
                 absl::Span<const TokenId> tokens) const;
  PrefixNodeId FindByKey(const BlockKey& key, CacheScope scope,
                         PrefixNodeId parent,
                         absl::Span<const TokenId> tokens) const;
  PrefixNodeId& Bucket(const BlockKey& key) {
    return buckets_[key.low & (buckets_.size() - 1)];
  }
  const PrefixNodeId& Bucket(const BlockKey& key) const {
    return buckets_[key.low & (buckets_.size() - 1)];
  }
  void GrowBuckets();
  // Ends the node, and then its parent, unless something keeps it.
  void EraseUnkept(PrefixNodeId node);

  const int32_t block_size_;
  const HashKey hash_key_;
  PrefixSummary* const summary_;  // may be null
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;  // [nodes_.size(), block_size]
  // Heads of the chains of nodes by key; a power of two of them.
  std::vector<PrefixNodeId> buckets_;
  PrefixNodeId dead_ = kNoNode;  // chain of nodes to use again
  int32_t num_nodes_ = 0;        // alive
};

}  // namespace quire

#endif  // COORDINATOR_KV_PREFIX_INDEX_H_
