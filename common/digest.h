// SPDX-License-Identifier: Apache-2.0
//
// Cheap fingerprints by which coordinator and ranks notice that they no longer
// agree. Not a defence against an adversary.
#ifndef COMMON_DIGEST_H_
#define COMMON_DIGEST_H_

#include <cstdint>

#include "absl/types/span.h"
#include "common/ids.h"

namespace quire {

// The finaliser of SplitMix64 (Steele et al., OOPSLA'14): a bijection that
// spreads every input bit over the whole word.
constexpr uint64_t MixBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The set of all (slot, logical index, block) entries of all block tables: an
// exclusive-or of their hashes, so adding and removing are the same O(1) step
// and order does not matter.
class TableDigest {
 public:
  void Toggle(SlotId slot, int32_t logical_idx, int32_t block) {
    value_ ^= MixBits(MixBits(static_cast<uint64_t>(slot.value()) << 32 |
                              static_cast<uint32_t>(logical_idx)) ^
                      static_cast<uint32_t>(block));
  }
  void Clear() { value_ = 0; }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
};

// Of one step's sampled tokens, in order.
inline uint64_t TokenDigest(absl::Span<const TokenId> tokens) {
  uint64_t digest = tokens.size();
  for (TokenId token : tokens) {
    digest = MixBits(digest ^ static_cast<uint32_t>(token));
  }
  return digest;
}

}  // namespace quire

#endif  // COMMON_DIGEST_H_
