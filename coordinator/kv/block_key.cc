// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_key.h"

#include <random>

#include "common/sip_hash.h"

namespace quire {
namespace {

// 1-3 rounds, as in Rust's hash maps.
using KeyHash = SipHash<1, 3, 128>;

BlockKey Finish(KeyHash hash, uint64_t num_bytes) {
  const auto [low, high] = hash.Finish(num_bytes);
  return {low, high};
}

}  // namespace

HashKey ProcessHashKey() {
  static const HashKey key = [] {
    std::random_device random;
    const auto word = [&random] {
      return uint64_t{random()} << 32 | uint64_t{random()};
    };
    return HashKey{word() | 1, word()};
  }();
  return key;
}

BlockKey ScopeKey(const HashKey& hash_key, uint64_t scope) {
  return SipHash128(hash_key, {scope});
}

BlockKey ChainKey(const HashKey& hash_key, const BlockKey& parent,
                  absl::Span<const TokenId> tokens) {
  KeyHash hash(hash_key[0], hash_key[1]);
  hash.Absorb(parent.low);
  hash.Absorb(parent.high);
  const size_t num_pairs = tokens.size() / 2;
  for (size_t i = 0; i < num_pairs; ++i) {
    hash.Absorb(uint64_t{static_cast<uint32_t>(tokens[2 * i])} |
                uint64_t{static_cast<uint32_t>(tokens[2 * i + 1])} << 32);
  }
  if (tokens.size() % 2 != 0) {
    hash.Absorb(static_cast<uint32_t>(tokens.back()));
  }
  return Finish(hash, 16 + 8 * ((tokens.size() + 1) / 2));
}

BlockKey SipHash128(const HashKey& hash_key, absl::Span<const uint64_t> words) {
  KeyHash hash(hash_key[0], hash_key[1]);
  for (uint64_t word : words) hash.Absorb(word);
  return Finish(hash, 8 * words.size());
}

}  // namespace quire
