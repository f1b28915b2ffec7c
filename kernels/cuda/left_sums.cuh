// SPDX-License-Identifier: Apache-2.0
//
// Partial sums that a block leaves for another of the same launch. Each word
// tells by itself whether it is there: an empty one holds a pattern that no sum
// has. So neither side needs a fence or a flag, whose way there and back would
// take longer than the sums. Whoever takes a word empties it, for a kernel that
// begins when this one has ended.
#ifndef KERNELS_CUDA_LEFT_SUMS_CUH_
#define KERNELS_CUDA_LEFT_SUMS_CUH_

#include <cstdint>

namespace quire::left {

// Of each byte of empty memory. Not a number, but none that arithmetic gives.
inline constexpr int kEmptyByte = 0xff;
inline constexpr uint32_t kEmptyWord = 0xffffffff;

__device__ __forceinline__ uint32_t WordOf(float value) {
  const uint32_t word = __float_as_uint(value);
  return word == kEmptyWord ? kEmptyWord >> 1 : word;
}

__device__ __forceinline__ void StoreWords(uint4* to, const uint4& words) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to),
               "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
}

// Four sums.
__device__ __forceinline__ void Leave(const float* sums, uint4* to) {
  StoreWords(to, make_uint4(WordOf(sums[0]), WordOf(sums[1]), WordOf(sums[2]),
                            WordOf(sums[3])));
}

__device__ __forceinline__ uint4 LoadWords(const uint4* from) {
  uint4 words;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "l"(from)
               : "memory");
  return words;
}

__device__ __forceinline__ bool IsThere(const uint4& words) {
  return words.x != kEmptyWord && words.y != kEmptyWord &&
         words.z != kEmptyWord && words.w != kEmptyWord;
}

// Waits for those of kCount fours of sums, `place(i)` each, that were not there
// when they were loaded: all that are missing are looked for at once, as a look
// takes long.
template <int kCount, typename Place>
__device__ __forceinline__ void FindMissing(const Place& place,
                                            uint4 (&words)[kCount]) {
  bool is_missing = true;
#pragma unroll 1
  while (is_missing) {
    is_missing = false;
#pragma unroll
    for (int i = 0; i < kCount; ++i) is_missing |= !IsThere(words[i]);
    if (!is_missing) break;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (!IsThere(words[i])) words[i] = LoadWords(place(i));
    }
  }
}

template <int kCount, typename Place>
__device__ __forceinline__ void Find(const Place& place,
                                     uint4 (&words)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) words[i] = LoadWords(place(i));
  FindMissing(place, words);
}

// Adds what was found at `from` to four sums, and leaves that empty.
__device__ __forceinline__ void Take(uint4* from, const uint4& words,
                                     float* sums) {
  StoreWords(from, make_uint4(kEmptyWord, kEmptyWord, kEmptyWord, kEmptyWord));
  sums[0] += __uint_as_float(words.x);
  sums[1] += __uint_as_float(words.y);
  sums[2] += __uint_as_float(words.z);
  sums[3] += __uint_as_float(words.w);
}

}  // namespace quire::left

#endif  // KERNELS_CUDA_LEFT_SUMS_CUH_
