// SPDX-License-Identifier: Apache-2.0
//
// Where in an inbox of kernels/cuda/all_reduce.h what lies. For host and
// device.
#ifndef KERNELS_CUDA_ALL_REDUCE_PLAN_H_
#define KERNELS_CUDA_ALL_REDUCE_PLAN_H_

#include <cstdint>

namespace quire {

inline constexpr int32_t kMaxPeers = 8;

// -0.0 in float; in bf16 a 0.0 and, above it, a -0.0.
inline constexpr uint32_t kEmptyWord = 0x80000000u;

// Messages travel in vectors of 16 bytes.
inline constexpr int64_t kVectorBytes = 16;
// Of one half: past some MiB a longer message is no faster a byte.
inline constexpr int64_t kInboxHalf = int64_t{16} << 20;
inline constexpr int64_t kInboxBytes = 2 * kInboxHalf;

// In one shot each sender has a part of the half.
constexpr int64_t MaxOneShotBytes(int32_t world_size) {
  return kInboxHalf / world_size;
}
constexpr int64_t OneShotOffset(int32_t world_size, int32_t sender) {
  return sender * MaxOneShotBytes(world_size);
}

// In two shots the half's first half takes the peers' parts of the rank's own
// slice, the second the sums of the others'.
constexpr int64_t MaxTwoShotBytes() { return kInboxHalf / 2; }
constexpr int64_t PartOffset(int32_t world_size, int32_t sender) {
  return sender * (kInboxHalf / 2 / world_size);
}
constexpr int64_t SumOffset(int32_t world_size, int32_t sender) {
  return kInboxHalf / 2 + PartOffset(world_size, sender);
}

// The vectors of a message that rank `rank` adds up in two shots: [begin, end).
// Later ranks may have fewer, or none.
struct VectorSlice {
  int64_t begin;
  int64_t end;
  constexpr int64_t size() const { return end - begin; }
};
constexpr VectorSlice SliceOf(int64_t num_vectors, int32_t rank,
                              int32_t world_size) {
  const int64_t each = (num_vectors + world_size - 1) / world_size;
  const int64_t begin = rank * each < num_vectors ? rank * each : num_vectors;
  const int64_t end = begin + each < num_vectors ? begin + each : num_vectors;
  return {begin, end};
}

// Two shots of fewer vectors would leave ranks without a word of their peers,
// on which the turns rest.
constexpr int64_t MinTwoShotVectors(int32_t world_size) {
  return int64_t{world_size} * world_size;
}

}  // namespace quire

#endif  // KERNELS_CUDA_ALL_REDUCE_PLAN_H_
