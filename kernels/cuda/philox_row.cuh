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

  // Of tokens 4 * group to 4 * group + 3.
  __device__ __forceinline__ PhiloxWords Words(uint32_t group) const {
    const uint64_t from_group = uint64_t{kPhiloxMultiplier0} * group;
    const uint64_t then = uint64_t{kPhiloxMultiplier1} *
                          (static_cast<uint32_t>(from_group >> 32) ^ first_);
    uint32_t c0 = static_cast<uint32_t>(then >> 32) ^ second0_;
    uint32_t c1 = static_cast<uint32_t>(then);
    uint32_t c2 = static_cast<uint32_t>(from_group) ^ second2_;
    uint32_t c3 = second3_;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * c0;
      const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * c2;
      c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0_[i];
      c1 = static_cast<uint32_t>(product1);
      c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1_[i];
      c3 = static_cast<uint32_t>(product0);
    }
    return {{c0, c1, c2, c3}};
  }

 private:
  static constexpr int kRounds = kPhiloxRounds - 2;

  uint32_t first_, second0_, second2_, second3_;
  uint32_t key0_[kRounds], key1_[kRounds];
};

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_PHILOX_ROW_CUH_
