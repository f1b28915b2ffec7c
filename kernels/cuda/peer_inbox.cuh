// SPDX-License-Identifier: Apache-2.0
//
// The device's side of inboxes (all_reduce.h): sending, and waiting that ends.
//
// Every word is valid by itself, so neither side needs a fence: loads and
// stores are relaxed and of system scope (volatile, which also passes by L1).
#ifndef KERNELS_CUDA_PEER_INBOX_CUH_
#define KERNELS_CUDA_PEER_INBOX_CUH_

#include <cstdint>

#include "kernels/cuda/all_reduce.h"
#include "kernels/cuda/vector.cuh"

namespace quire::peer {

// Looks at an empty word between two looks at the clock, some 0.2 ms, and at
// the host's word, which is behind PCIe, some 3 ms.
constexpr uint32_t kSpinsPerLook = 256;
constexpr uint32_t kSpinsPerHostLook = 4096;

__device__ __forceinline__ uint4 LoadVolatile(const void* from) {
  uint4 v;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

__device__ __forceinline__ void StoreVolatile(const uint4& v, void* to) {
  asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to),
               "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

__device__ __forceinline__ uint64_t GlobalTimerNs() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

__device__ __forceinline__ bool IsWhole(const uint4& v) {
  return v.x != kEmptyWord && v.y != kEmptyWord && v.z != kEmptyWord &&
         v.w != kEmptyWord;
}

__device__ __forceinline__ uint32_t WordWithoutEmpty(uint32_t word) {
  return word == kEmptyWord ? 0u : word;
}

// What may be sent: no word of it reads as empty.
__device__ __forceinline__ uint4 WithoutEmpty(const uint4& v) {
  return make_uint4(WordWithoutEmpty(v.x), WordWithoutEmpty(v.y),
                    WordWithoutEmpty(v.z), WordWithoutEmpty(v.w));
}

template <typename T>
__device__ __forceinline__ void Unpack(const uint4& raw,
                                       float (&to)[cuda::kLanes<T>]) {
  const T* values = reinterpret_cast<const T*>(&raw);
#pragma unroll
  for (int j = 0; j < cuda::kLanes<T>; ++j) to[j] = cuda::ToFloat(values[j]);
}

template <typename T>
__device__ __forceinline__ uint4 Pack(const float (&from)[cuda::kLanes<T>]) {
  uint4 raw;
  T* values = reinterpret_cast<T*>(&raw);
#pragma unroll
  for (int j = 0; j < cuda::kLanes<T>; ++j) {
    values[j] = cuda::FromFloat<T>(from[j]);
  }
  return raw;
}

// n elements of any alignment as vectors; the last may be filled up with zeros,
// which are not written back.
template <typename T>
struct Elements {
  T* data;
  int64_t n;

  static constexpr int kLanes = kVectorBytes / sizeof(T);

  __device__ __forceinline__ int64_t num_vectors() const {
    return (n + kLanes - 1) / kLanes;
  }
  // REQUIRES: aligned, and not the last vector of a broken number.
  __device__ __forceinline__ uint4 LoadWhole(int64_t i) const {
    return WithoutEmpty(reinterpret_cast<const uint4*>(data)[i]);
  }
  __device__ __forceinline__ uint4 Load(int64_t i) const {
    if (IsWide(i)) return LoadWhole(i);
    uint4 raw = make_uint4(0, 0, 0, 0);
    T* values = reinterpret_cast<T*>(&raw);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      if (i * kLanes + j < n) values[j] = data[i * kLanes + j];
    }
    return WithoutEmpty(raw);
  }
  __device__ __forceinline__ void Store(const uint4& raw, int64_t i) const {
    if (IsWide(i)) {
      reinterpret_cast<uint4*>(data)[i] = raw;
      return;
    }
    const T* values = reinterpret_cast<const T*>(&raw);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      if (i * kLanes + j < n) data[i * kLanes + j] = values[j];
    }
  }

 private:
  __device__ __forceinline__ bool IsWide(int64_t i) const {
    return reinterpret_cast<uintptr_t>(data) % kVectorBytes == 0 &&
           (i + 1) * kLanes <= n;
  }
};

// Calls so far, if every call enqueued before is done.
__device__ __forceinline__ uint32_t LoadTurn(const PeerGroup& group) {
  return *const_cast<const volatile uint32_t*>(&group.state->turn);
}

// To every peer, as the i-th vector of the next call, which is of one shot.
__device__ __forceinline__ void SendAhead(const PeerGroup& group, uint32_t turn,
                                          int64_t i, const uint4& v) {
  const uint4 sent = WithoutEmpty(v);
  const int64_t place = (turn % 2) * kInboxHalf +
                        OneShotOffset(group.world_size, group.rank) +
                        i * kVectorBytes;
  for (int k = 1; k < group.world_size; ++k) {
    const int to = (group.rank + k) % group.world_size;
    StoreVolatile(sent, group.inboxes[to] + place);
  }
}

// One call's use of the inboxes, in every thread of its grid. All blocks of the
// grid run at once.
template <int kRanks>
class Inbox {
 public:
  // REQUIRES: earlier kernels are done.
  __device__ __forceinline__ explicit Inbox(const PeerGroup& group)
      : group_(group), state_(LoadVolatile(group.state)) {
    Confirm();
  }
  // Takes a turn that was read before earlier kernels were done for this call's
  // until Confirm().
  __device__ __forceinline__ Inbox(const PeerGroup& group, uint32_t guess)
      : group_(group),
        state_(LoadVolatile(group.state)),
        half_(HalfOf(guess)) {}
  // False: the guess was wrong, and so is what StartFromAll() began.
  __device__ __forceinline__ bool Confirm() {
    turn_ = state_.x;
    is_over_ = state_.z != kPeersFine;
    const bool is_right = half_ == HalfOf(turn_);
    half_ = HalfOf(turn_);
    return is_right;
  }

  // Every thread calls it once: this block has read whose turn it is. Yields
  // what EndTurn is told, so that nobody waits for the count while there is
  // other work.
  __device__ __forceinline__ uint32_t Arrive() const {
    __syncthreads();
    return threadIdx.x == 0 ? atomicAdd(&group_.state->arrivals, 1) : 0;
  }
  // The block that arrived last makes it the next call's turn.
  __device__ __forceinline__ void EndTurn(uint32_t num_before) const {
    if (threadIdx.x != 0 || num_before != gridDim.x - 1) return;
    volatile PeerState* state = group_.state;
    state->arrivals = 0;
    state->turn = turn_ + 1;
  }

  __device__ __forceinline__ void Send(int to, int64_t offset, int64_t i,
                                       const uint4& v) const {
    StoreVolatile(v, group_.inboxes[to] + half_ + offset + i * kVectorBytes);
  }

  // To every peer, as its i-th vector of one shot.
  __device__ __forceinline__ void SendToAll(const uint4& v, int64_t i) const {
#pragma unroll
    for (int k = 1; k < kRanks; ++k) {
      Send((group_.rank + k) % kRanks, OneShotOffset(kRanks, group_.rank), i,
           v);
    }
  }

  // Waits for one vector and empties its place.
  __device__ __forceinline__ uint4 Take(int64_t offset, int64_t i) const {
    char* place = Place(offset, i);
    uint4 v = LoadVolatile(place);
    Await(place, &v);
    Empty(place);
    return v;
  }

  // parts[r] = rank r's i-th vector of one shot, of this rank `own`.
  __device__ __forceinline__ void TakeFromAll(const uint4& own, int64_t i,
                                              uint4 (&parts)[kRanks]) const {
    StartFromAll(own, i, parts);
    FinishFromAll(i, parts);
  }
  // The same in two halves: loads are on their way when the first returns, and
  // the second waits for what they did not find.
  __device__ __forceinline__ void StartFromAll(const uint4& own, int64_t i,
                                               uint4 (&parts)[kRanks]) const {
    Start(own, i, parts, [](int r) { return OneShotOffset(kRanks, r); });
  }
  __device__ __forceinline__ void FinishFromAll(int64_t i,
                                                uint4 (&parts)[kRanks]) const {
    Finish(i, parts, [](int r) { return OneShotOffset(kRanks, r); });
  }
  // TakeFromAll of the first of two shots.
  __device__ __forceinline__ void TakeParts(const uint4& own, int64_t i,
                                            uint4 (&parts)[kRanks]) const {
    const auto offset_of = [](int r) { return PartOffset(kRanks, r); };
    Start(own, i, parts, offset_of);
    Finish(i, parts, offset_of);
  }

 private:
  __device__ __forceinline__ static int64_t HalfOf(uint32_t turn) {
    return (turn % 2) * kInboxHalf;
  }

  __device__ __forceinline__ char* Place(int64_t offset, int64_t i) const {
    return group_.inboxes[group_.rank] + half_ + offset + i * kVectorBytes;
  }

  __device__ __forceinline__ static void Empty(char* place) {
    StoreVolatile(make_uint4(kEmptyWord, kEmptyWord, kEmptyWord, kEmptyWord),
                  place);
  }

  // All loads are on their way before the first is waited for.
  template <typename OffsetOf>
  __device__ __forceinline__ void Start(const uint4& own, int64_t i,
                                        uint4 (&parts)[kRanks],
                                        const OffsetOf& offset_of) const {
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      parts[r] = r == group_.rank ? own : LoadVolatile(Place(offset_of(r), i));
    }
  }
  template <typename OffsetOf>
  __device__ __forceinline__ void Finish(int64_t i, uint4 (&parts)[kRanks],
                                         const OffsetOf& offset_of) const {
#pragma unroll
    for (int r = 0; r < kRanks; ++r) {
      if (r == group_.rank) continue;
      char* place = Place(offset_of(r), i);
      Await(place, &parts[r]);
      Empty(place);
    }
  }

  __device__ __forceinline__ void Await(const char* place, uint4* v) const {
    uint64_t start = 0;
    uint32_t spins = 0;
    while (!IsWhole(*v) && !is_over_) {
      *v = LoadVolatile(place);
      if (++spins % kSpinsPerLook == 0 && IsOver(spins, &start)) return;
    }
  }

  // Whether waiting is over, for whatever reason; tells everyone.
  __device__ __noinline__ bool IsOver(uint32_t spins, uint64_t* start) const {
    volatile PeerState* state = group_.state;
    if (state->outcome != kPeersFine) return true;
    const uint64_t now = GlobalTimerNs();
    if (*start == 0) *start = now;
    uint32_t outcome = kPeersFine;
    if (now - *start > static_cast<uint64_t>(group_.timeout_ns)) {
      outcome = kPeerSilent;
    } else if (spins % kSpinsPerHostLook == 0 &&
               *static_cast<const volatile uint32_t*>(group_.abort) != 0) {
      outcome = kPeersAborted;
    }
    if (outcome == kPeersFine) return false;
    state->outcome = outcome;
    *static_cast<volatile uint32_t*>(group_.outcome) = outcome;
    __threadfence_system();
    return true;
  }

  const PeerGroup& group_;
  uint4 state_;
  uint32_t turn_ = 0;
  bool is_over_ = false;
  int64_t half_ = 0;
};

}  // namespace quire::peer

#endif  // KERNELS_CUDA_PEER_INBOX_CUH_
