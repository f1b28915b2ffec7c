// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/cache_scope.h"

#include <cstring>

#include "common/digest.h"
#include "common/sip_hash.h"

namespace quire {
namespace {

// The top bit tells the two kinds of scope apart.
constexpr uint64_t kPrivateBit = uint64_t{1} << 63;

}  // namespace

uint64_t SipHash24(uint64_t key, absl::string_view text) {
  // Two words of key from one: the hash is only as strong as 64 bits anyway.
  SipHash<2, 4, 64> hash(key, MixBits(key));
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    hash.Absorb(word);
  }
  uint64_t tail = 0;
  for (size_t i = 0; at + i < text.size(); ++i) {
    tail |= uint64_t{static_cast<unsigned char>(text[at + i])} << (8 * i);
  }
  return hash.Finish(text.size(), tail)[0];
}

CacheScope SharedScope(uint64_t key, absl::string_view salt) {
  const CacheScope scope = SipHash24(key, salt) & ~kPrivateBit;
  return scope == 0 ? 1 : scope;
}

CacheScope PrivateScope(RequestKey group) {
  return group.value() | kPrivateBit;
}

}  // namespace quire
