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

// Logits of tokens in fours that share a Philox block: raw[i] of tokens
// 4 * (group + i * step) and on, the largest of them in largest[i], NaN where
// one is.
template <int kFours>
struct TokenFours {
  int32_t group, step;
  float raw[kFours][4];
  float largest[kFours];
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
  template <int kFours>
  __device__ __forceinline__ void Begin(const TokenFours<kFours>& fours) {
    Consider(fours);
  }
  template <int kFours>
  __device__ __forceinline__ void Consider(const TokenFours<kFours>& fours) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      if (!(fours.largest[i] > best_.value)) continue;
      best_.value = fours.largest[i];
#pragma unroll
      for (int j = 3; j >= 0; --j) {
        if (fours.raw[i][j] != best_.value) continue;
        best_.id = (fours.group + i * fours.step) * 4 + j;
      }
    }
  }
  __device__ const Best& best() const { return best_; }

 private:
  Best best_ = {-INFINITY, -1};
};

// With noise. A token is looked at where its noise may lift it to what another
// of the block has reached: one exponential for four tokens, no logarithm.
class NoisySearch {
 public:
  // A warp calls it. `reached` is shared by the block, 0 at first.
  __device__ __forceinline__ NoisySearch(uint64_t seed, int64_t position,
                                         float temperature, uint32_t* reached)
      : noise_(seed, position),
        divisor_(temperature),
        inverse_(1.0f / temperature),
        shared_reach_(reached) {}

  // The first tokens of every thread of the block, all at once: the best of
  // those with the most noise of four is what others have to reach.
  template <int kFours>
  __device__ __forceinline__ void Begin(const TokenFours<kFours>& fours) {
    PhiloxWords words[kFours];
    noise_.Words(fours.group, fours.step, words);
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      uint32_t least = words[i].word[0];
      float its_raw = fours.raw[i][0];
#pragma unroll
      for (int j = 1; j < 4; ++j) {
        if (words[i].word[j] >= least) continue;
        least = words[i].word[j];
        its_raw = fours.raw[i][j];
      }
      const float about = fmaf(its_raw, inverse_, FastGumbel(UniformOf(least)));
      if (!isnan(about)) most = max(most, cuda::KeyOf(about));
    }
    most = __reduce_max_sync(0xffffffffu, most);
    if (Raise(cuda::OfKey(most)) && threadIdx.x % cuda::kWarp == 0) Tell();
    __syncthreads();
    LookAt(words, fours);
  }

  template <int kFours>
  __device__ __forceinline__ void Consider(const TokenFours<kFours>& fours) {
    PhiloxWords words[kFours];
    noise_.Words(fours.group, fours.step, words);
    LookAt(words, fours);
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

  // Noise is above t only where u < exp(-t): what a random word must not exceed
  // for a token of this logit to reach the bar, rounded up. NaN for a NaN, and
  // for -infinity.
  __device__ __forceinline__ float MostWord(float raw) const {
    constexpr float kLog2E = 1.44269504f;
    const float about = raw * inverse_;
    const float room = fmaf(fabsf(about), 1e-6f, about - reach_) * kLog2E;
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(room));
    return fmaf(power, 0x1.01p32f, 2.0f);
  }

  template <int kFours>
  __device__ __forceinline__ void LookAt(const PhiloxWords (&words)[kFours],
                                         const TokenFours<kFours>& fours) {
    // What the block has reached meanwhile.
    const uint32_t key = *static_cast<volatile uint32_t*>(shared_reach_);
    if (key != 0) reach_ = fmaxf(reach_, cuda::OfKey(key));
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const uint32_t least = min(min(words[i].word[0], words[i].word[1]),
                                 min(words[i].word[2], words[i].word[3]));
      if (static_cast<float>(least) <= MostWord(fours.largest[i])) {
        LookClosely(words[i], fours.group + i * fours.step, fours.raw[i]);
      }
    }
  }

  __device__ __forceinline__ void LookClosely(const PhiloxWords& words,
                                              int32_t group,
                                              const float (&raw)[4]) {
    uint32_t may_reach = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (static_cast<float>(words.word[j]) <= MostWord(raw[j])) {
        may_reach |= 1u << j;
      }
    }
    // One or none as a rule: the logarithms are written once.
#pragma unroll 1
    for (; may_reach != 0; may_reach &= may_reach - 1) {
      const int j = __ffs(may_reach) - 1;
      uint32_t word = words.word[0];
      float its_raw = raw[0];
#pragma unroll
      for (int other = 1; other < 4; ++other) {
        if (j != other) continue;
        word = words.word[other];
        its_raw = raw[other];
      }
      const Best mine = {its_raw / divisor_ + Gumbel(UniformOf(word)),
                         group * 4 + j};
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
