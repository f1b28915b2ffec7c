// SPDX-License-Identifier: Apache-2.0
//
// SipHash (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012) over
// whole words: whoever does not know the key cannot make hashes collide.
#ifndef COMMON_SIP_HASH_H_
#define COMMON_SIP_HASH_H_

#include <array>
#include <bit>
#include <cstdint>

namespace quire {

// SipHash-kAbsorb-kFinish with kBits (64 or 128) out: words are absorbed in
// order, least significant byte first, then one of the Finish functions ends
// it.
template <int kAbsorb, int kFinish, int kBits>
class SipHash {
  static_assert(kBits == 64 || kBits == 128);

 public:
  SipHash(uint64_t key0, uint64_t key1)
      : v0_(key0 ^ 0x736f6d6570736575u),
        v1_(key1 ^ 0x646f72616e646f6du ^ (kBits == 128 ? 0xee : 0)),
        v2_(key0 ^ 0x6c7967656e657261u),
        v3_(key1 ^ 0x7465646279746573u) {}

  void Absorb(uint64_t word) {
    v3_ ^= word;
    Rounds(kAbsorb);
    v0_ ^= word;
  }

  // Of `num_bytes` in all. `tail` holds the num_bytes % 8 that made no word,
  // above them zeros. The low word first.
  std::array<uint64_t, kBits / 64> Finish(uint64_t num_bytes,
                                          uint64_t tail = 0) {
    Absorb(num_bytes << 56 | tail);
    v2_ ^= kBits == 128 ? 0xee : 0xff;
    Rounds(kFinish);
    std::array<uint64_t, kBits / 64> hash;
    hash[0] = v0_ ^ v1_ ^ v2_ ^ v3_;
    if constexpr (kBits == 128) {
      v1_ ^= 0xdd;
      Rounds(kFinish);
      hash[1] = v0_ ^ v1_ ^ v2_ ^ v3_;
    }
    return hash;
  }

 private:
  void Rounds(int count) {
    for (int i = 0; i < count; ++i) {
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
  }

  uint64_t v0_, v1_, v2_, v3_;
};

}  // namespace quire

#endif  // COMMON_SIP_HASH_H_
