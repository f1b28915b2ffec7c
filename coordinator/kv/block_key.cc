// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_key.h"

#include <bit>
#include <random>

namespace quire {
namespace {

class SipState {
 public:
  explicit SipState(const HashKey& key)
      : v0_(key[0] ^ 0x736f6d6570736575u),
        // 0xee: 128 bits out.
        v1_(key[1] ^ 0x646f72616e646f6du ^ 0xee),
        v2_(key[0] ^ 0x6c7967656e657261u),
        v3_(key[1] ^ 0x7465646279746573u) {}

  void Add(uint64_t word) {
    v3_ ^= word;
    Round();
    v0_ ^= word;
  }

  // Of `num_bytes`, a multiple of 8.
  BlockKey Finish(uint64_t num_bytes) {
    Add(num_bytes << 56);
    v2_ ^= 0xee;
    for (int i = 0; i < 3; ++i) Round();
    const uint64_t low = v0_ ^ v1_ ^ v2_ ^ v3_;
    v1_ ^= 0xdd;
    for (int i = 0; i < 3; ++i) Round();
    return {low, v0_ ^ v1_ ^ v2_ ^ v3_};
  }

 private:
  void Round() {
    v0_ += v1_;
    v2_ += v3_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v1_;
    v0_ += v3_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ = std::rotl(v2_, 32);
  }

  uint64_t v0_, v1_, v2_, v3_;
};

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
  SipState state(hash_key);
  state.Add(parent.low);
  state.Add(parent.high);
  const size_t num_pairs = tokens.size() / 2;
  for (size_t i = 0; i < num_pairs; ++i) {
    state.Add(uint64_t{static_cast<uint32_t>(tokens[2 * i])} |
              uint64_t{static_cast<uint32_t>(tokens[2 * i + 1])} << 32);
  }
  if (tokens.size() % 2 != 0) {
    state.Add(static_cast<uint32_t>(tokens.back()));
  }
  return state.Finish(16 + 8 * ((tokens.size() + 1) / 2));
}

BlockKey SipHash128(const HashKey& hash_key, absl::Span<const uint64_t> words) {
  SipState state(hash_key);
  for (uint64_t word : words) state.Add(word);
  return state.Finish(8 * words.size());
}

}  // namespace quire
