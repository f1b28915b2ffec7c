// SPDX-License-Identifier: Apache-2.0
//
// The best of the tokens that a block is shown: the largest logit, or the
// largest sum of logit and noise (kernels/sample.h). Which threads see which
// tokens, and in what order, does not change it.
#ifndef KERNELS_CUDA_BEST_TOKEN_CUH_
#define KERNELS_CUDA_BEST_TOKEN_CUH_

#include <cstdint>

#include "kernels/cuda/float_key.cuh"
#include "kernels/cuda/gumbel.cuh"
#include "kernels/cuda/philox_row.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire::sampling {

// Four tokens that share a Philox block, `group` * 4 and on; `largest` of their
// logits `raw` is NaN where one of them is.
struct FourTokens {
  int32_t group;
  float raw[4];
  float largest;
};

// The larger; NaN if one of them is.
__device__ __forceinline__ float MaxOrNan(float a, float b) {
  float max;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(max) : "f"(a), "f"(b));
  return max;
}

// A warp calls these, and every lane gets the result.
__device__ __forceinline__ float WarpMaxOrNan(float x) {
  const uint32_t key = isnan(x) ? ~0u : cuda::KeyOf(x);
  const uint32_t max = __reduce_max_sync(0xffffffffu, key);
  return cuda::OfKey(max);  // of ~0u: a NaN
}

__device__ __forceinline__ Best WarpBest(const Best& best) {
  const uint32_t key = cuda::KeyOf(best.value);
  const uint32_t top = __reduce_max_sync(0xffffffffu, key);
  const uint32_t none = ~0u;
  const uint32_t id = __reduce_min_sync(
      0xffffffffu,
      key == top && best.id >= 0 ? static_cast<uint32_t>(best.id) : none);
  return {cuda::OfKey(top), id == none ? -1 : static_cast<int32_t>(id)};
}

// What a block's threads share while they search a row.
template <int kWarps>
struct SearchShared {
  uint32_t reached;  // key of what a token needs to be looked at
  Best best[kWarps];
  float max[kWarps];
};

// Greedy. Of equal logits the lowest id.
class GreedySearch {
 public:
  // Shown a thread's tokens in ascending order.
  __device__ __forceinline__ void Begin(const FourTokens& four) {
    Consider(four);
  }
  __device__ __forceinline__ void Refresh() {}
  __device__ __forceinline__ void Consider(const FourTokens& four) {
    if (!(four.largest > best_.value)) return;
#pragma unroll
    for (int j = 3; j >= 0; --j) {
      if (four.raw[j] == four.largest) best_.id = four.group * 4 + j;
    }
    best_.value = four.largest;
  }
  __device__ const Best& best() const { return best_; }

 private:
  Best best_ = {-INFINITY, -1};
};

// With noise. A token is looked at where its noise may lift it to what another
// of the block has reached: one exponential for four tokens, no logarithm.
class NoisySearch {
 public:
  // `reached` is shared by the block, 0 at first.
  __device__ NoisySearch(uint64_t seed, int64_t position, float temperature,
                         uint32_t* reached)
      : noise_(seed, position),
        divisor_(temperature),
        inverse_(1.0f / temperature),
        shared_reach_(reached) {}

  // The first four tokens of every thread of a warp, all at once: the best of
  // those with the most noise of four is what others have to reach.
  __device__ __forceinline__ void Begin(const FourTokens& four) {
    const PhiloxWords words = noise_.Words(four.group);
    uint32_t least = words.word[0];
    float its_raw = four.raw[0];
#pragma unroll
    for (int j = 1; j < 4; ++j) {
      if (words.word[j] >= least) continue;
      least = words.word[j];
      its_raw = four.raw[j];
    }
    const float about = fmaf(its_raw, inverse_, FastGumbel(UniformOf(least)));
    const uint32_t most =
        __reduce_max_sync(0xffffffffu, isnan(about) ? 0u : cuda::KeyOf(about));
    if (Raise(cuda::OfKey(most)) && threadIdx.x % cuda::kWarp == 0) Tell();
    LookAt(words, four);
  }

  // Learns what the block has reached.
  __device__ __forceinline__ void Refresh() {
    const uint32_t key = *static_cast<volatile uint32_t*>(shared_reach_);
    if (key != 0) reach_ = fmaxf(reach_, cuda::OfKey(key));
  }

  __device__ __forceinline__ void Consider(const FourTokens& four) {
    // No noise is larger: -log(2^-32), and more.
    constexpr float kMostNoise = 22.3f;
    if (fmaf(four.largest, inverse_, kMostNoise) < reach_) return;
    LookAt(noise_.Words(four.group), four);
  }

  __device__ const Best& best() const { return best_; }

 private:
  // A token of the row has this value, within FastGumbel's error. What is less
  // by twice that and by what is lost in rounding values of this size loses.
  __device__ __forceinline__ bool Raise(float value) {
    const float reach = value - 2 * kGumbelMargin - 2e-6f * fabsf(value);
    if (!(reach > reach_)) return false;
    reach_ = reach;
    return true;
  }
  __device__ __forceinline__ void Tell() {
    atomicMax(shared_reach_, cuda::KeyOf(reach_));
  }

  __device__ __forceinline__ void LookAt(const PhiloxWords& words,
                                         const FourTokens& four) {
    const uint32_t least = min(min(words.word[0], words.word[1]),
                               min(words.word[2], words.word[3]));
    // Noise is above t only where u < exp(-t).
    const float about = four.largest * inverse_;
    const float room = about - reach_ + 1e-6f * fabsf(about);
    if (!(static_cast<float>(least >> 1) <= __expf(room) * 0x1.01p31f)) return;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float u = UniformOf(words.word[j]);
      if (!(fmaf(four.raw[j], inverse_, FastGumbel(u)) >= reach_)) continue;
      const Best mine = {four.raw[j] / divisor_ + Gumbel(u),
                         four.group * 4 + j};
      if (!(mine.value > -INFINITY) || !IsBetter(mine, best_)) continue;
      best_ = mine;
      if (Raise(mine.value)) Tell();
    }
  }

  const PhiloxRow noise_;
  const float divisor_, inverse_;
  uint32_t* const shared_reach_;
  float reach_ = -INFINITY;
  Best best_ = {-INFINITY, -1};
};

// Every thread of the block calls it; the first warp's get the best of all, and
// the largest logit. What is in `shared` is free again at the next barrier.
template <int kWarps>
__device__ __forceinline__ void ReduceSearch(SearchShared<kWarps>* shared,
                                             Best* best, float* max) {
  static_assert(kWarps <= cuda::kWarp);
  const int lane = threadIdx.x % cuda::kWarp, warp = threadIdx.x / cuda::kWarp;
  *best = WarpBest(*best);
  *max = WarpMaxOrNan(*max);
  if (lane == 0) {
    shared->best[warp] = *best;
    shared->max[warp] = *max;
  }
  __syncthreads();
  if (warp != 0) return;
  *best = lane < kWarps ? shared->best[lane] : Best{-INFINITY, -1};
  *max = lane < kWarps ? shared->max[lane] : -INFINITY;
  *best = WarpBest(*best);
  *max = WarpMaxOrNan(*max);
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_BEST_TOKEN_CUH_
