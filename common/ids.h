// SPDX-License-Identifier: Apache-2.0
//
// Numbers that must not be mixed up, each its own type. A strong id costs what
// its integer costs and converts to it only by value().
#ifndef COMMON_IDS_H_
#define COMMON_IDS_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>
#include <utility>

namespace quire {

template <typename Tag, typename Int>
class StrongId {
 public:
  using Integer = Int;

  constexpr StrongId() = default;
  constexpr explicit StrongId(Int value) : value_(value) {}

  constexpr Int value() const { return value_; }

  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  friend std::ostream& operator<<(std::ostream& os, StrongId id) {
    return os << id.value_;
  }
  template <typename H>
  friend H AbslHashValue(H h, StrongId id) {
    return H::combine(std::move(h), id.value_);
  }

 private:
  Int value_ = 0;
};

// A physical KV block of a group's device pool, [0, num_blocks). Made by
// coordinator/kv/block_pool only.
using BlockId = StrongId<struct BlockIdTag, int32_t>;
// A block of a group's host pool, where swapped-out blocks rest.
using HostBlockId = StrongId<struct HostBlockIdTag, int32_t>;
// A row of a contiguous (reserved or virtual) cache, [0, max_num_seqs).
using CacheRowId = StrongId<struct CacheRowIdTag, int32_t>;
// A worker-side seat of a running sequence, [0, max_num_seqs).
using SlotId = StrongId<struct SlotIdTag, int32_t>;
// A sequence, unique for the life of a coordinator. Never reused.
using SequenceId = StrongId<struct SequenceIdTag, uint64_t>;
// A request inside the engine, unique for the life of a coordinator.
using RequestKey = StrongId<struct RequestKeyTag, uint64_t>;
// An iteration of one group epoch: 1, 2, 3 ...
using StepId = StrongId<struct StepIdTag, uint64_t>;
// A life of the coordinator, or of a worker group. Only ever grows.
using Epoch = StrongId<struct EpochTag, uint64_t>;

// A vocabulary entry. Signed because kernels read it as int32_t.
using TokenId = int32_t;

}  // namespace quire

template <typename Tag, typename Int>
struct std::hash<quire::StrongId<Tag, Int>> {
  size_t operator()(quire::StrongId<Tag, Int> id) const {
    return std::hash<Int>()(id.value());
  }
};

#endif  // COMMON_IDS_H_
