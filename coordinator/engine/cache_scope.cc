// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/cache_scope.h"

#include <cstring>

#include "common/digest.h"

namespace quire {
namespace {

// The top bit tells the two kinds of scope apart.
constexpr uint64_t kPrivateBit = uint64_t{1} << 63;

constexpr uint64_t Rotate(uint64_t x, int bits) {
  return x << bits | x >> (64 - bits);
}

struct SipState {
  uint64_t v0, v1, v2, v3;

  void Round() {
    v0 += v1;
    v1 = Rotate(v1, 13) ^ v0;
    v0 = Rotate(v0, 32);
    v2 += v3;
    v3 = Rotate(v3, 16) ^ v2;
    v0 += v3;
    v3 = Rotate(v3, 21) ^ v0;
    v2 += v1;
    v1 = Rotate(v1, 17) ^ v2;
    v2 = Rotate(v2, 32);
  }

  void Absorb(uint64_t word) {
    v3 ^= word;
    Round();
    Round();
    v0 ^= word;
  }
};

}  // namespace

uint64_t SipHash24(uint64_t key, absl::string_view text) {
  // Two words of key from one: the hash is only as strong as 64 bits anyway.
  const uint64_t k0 = key;
  const uint64_t k1 = MixBits(key);
  SipState state = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du,
                    k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    state.Absorb(word);
  }
  uint64_t last = uint64_t{text.size()} << 56;
  for (size_t i = 0; at + i < text.size(); ++i) {
    last |= uint64_t{static_cast<unsigned char>(text[at + i])} << (8 * i);
  }
  state.Absorb(last);
  state.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) state.Round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

CacheScope SharedScope(uint64_t key, absl::string_view salt) {
  const CacheScope scope = SipHash24(key, salt) & ~kPrivateBit;
  return scope == 0 ? 1 : scope;
}

CacheScope PrivateScope(RequestKey group) {
  return group.value() | kPrivateBit;
}

}  // namespace quire
