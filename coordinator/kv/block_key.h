// SPDX-License-Identifier: Apache-2.0
//
// Names for runs of tokens that start at a sequence's beginning: each full
// block's key is a keyed hash of the key before it and its own tokens, so equal
// keys mean equal prefixes.
//
// SipHash (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012) with 128
// bits out and 1-3 rounds, as in Rust's hash maps: who does not know the hash
// key cannot make keys collide. Nothing breaks if they do (see prefix_index).
#ifndef COORDINATOR_KV_BLOCK_KEY_H_
#define COORDINATOR_KV_BLOCK_KEY_H_

#include <array>
#include <cstdint>

#include "absl/types/span.h"
#include "common/ids.h"

namespace quire {

// Of the hash. Both words 0 is never drawn.
using HashKey = std::array<uint64_t, 2>;

// Of a full block and all before it.
struct BlockKey {
  uint64_t low = 0;
  uint64_t high = 0;

  friend bool operator==(const BlockKey&, const BlockKey&) = default;
};

// One key per process, drawn from the system's randomness at the first call.
// Thread-safe.
HashKey ProcessHashKey();

// The key that a scope's first block follows.
BlockKey ScopeKey(const HashKey& hash_key, uint64_t scope);

// The key of `tokens` after those that `parent` stands for.
BlockKey ChainKey(const HashKey& hash_key, const BlockKey& parent,
                  absl::Span<const TokenId> tokens);

// SipHash-1-3-128 of whole words, least significant byte first.
BlockKey SipHash128(const HashKey& hash_key, absl::Span<const uint64_t> words);

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_KEY_H_
