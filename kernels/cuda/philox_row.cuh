// SPDX-License-Identifier: Apache-2.0
//
// The random words of one row's tokens (kernels/sample.h), block after block:
// what all blocks of a row share is computed once.
#ifndef KERNELS_CUDA_PHILOX_ROW_CUH_
#define KERNELS_CUDA_PHILOX_ROW_CUH_

#include <cstdint>

#include "kernels/philox.h"

namespace quire::sampling {

// Philox4x32(counter = (group, position, 0, 0), key = seed). Of the first round
// only the product with the group differs between groups, of the second only
// that with what the first made of it.
class PhiloxRow {
 public:
  __device__ __forceinline__ PhiloxRow(uint64_t seed, int64_t position) {
    uint32_t key0 = static_cast<uint32_t>(seed);
    uint32_t key1 = static_cast<uint32_t>(seed >> 32);
    const uint64_t product =
        uint64_t{kPhiloxMultiplier0} * (static_cast<uint32_t>(position) ^ key0);
    first_ = key1;
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
    second0_ = key0;
    second2_ = static_cast<uint32_t>(product >> 32) ^ key1;
    second3_ = static_cast<uint32_t>(product);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
      key0_[i] = key0;
      key1_[i] = key1;
    }
  }

  // words[i] are those of tokens 4 * group to 4 * group + 3, where group is
  // first + i * step. All blocks go through a round together, so that its keys
  // are made once.
  template <int kBlocks>
  __device__ __forceinline__ void Words(uint32_t first, uint32_t step,
                                        PhiloxWords (&words)[kBlocks]) const {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const uint64_t from_group =
          uint64_t{kPhiloxMultiplier0} * (first + i * step);
      const uint64_t then = uint64_t{kPhiloxMultiplier1} *
                            (static_cast<uint32_t>(from_group >> 32) ^ first_);
      words[i] = {{static_cast<uint32_t>(then >> 32) ^ second0_,
                   static_cast<uint32_t>(then),
                   static_cast<uint32_t>(from_group) ^ second2_, second3_}};
    }
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        uint32_t(&c)[4] = words[i].word;
        const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * c[0];
        const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * c[2];
        c[0] = static_cast<uint32_t>(product1 >> 32) ^ c[1] ^ key0_[round];
        c[1] = static_cast<uint32_t>(product1);
        c[2] = static_cast<uint32_t>(product0 >> 32) ^ c[3] ^ key1_[round];
        c[3] = static_cast<uint32_t>(product0);
      }
    }
  }

 private:
  static constexpr int kRounds = kPhiloxRounds - 2;

  uint32_t first_, second0_, second2_, second3_;
  uint32_t key0_[kRounds], key1_[kRounds];
};

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_PHILOX_ROW_CUH_
