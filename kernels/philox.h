// SPDX-License-Identifier: Apache-2.0
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy
// as 1, 2, 3", SC'11, section 3.3): random numbers as a pure function of a
// counter and a key. Plain inline code: read by nvcc and host compilers alike.
#ifndef KERNELS_PHILOX_H_
#define KERNELS_PHILOX_H_

#include <cstdint>

#ifdef __CUDACC__
#define QUIRE_HOST_DEVICE __host__ __device__
#else
#define QUIRE_HOST_DEVICE
#endif

namespace quire {

struct PhiloxWords {
  uint32_t word[4];
};

inline constexpr uint32_t kPhiloxMultiplier0 = 0xd2511f53u;
inline constexpr uint32_t kPhiloxMultiplier1 = 0xcd9e8d57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9e3779b9u;  // golden ratio
inline constexpr uint32_t kPhiloxWeyl1 = 0xbb67ae85u;  // sqrt(3) - 1
inline constexpr int kPhiloxRounds = 10;

QUIRE_HOST_DEVICE inline PhiloxWords Philox4x32(PhiloxWords counter,
                                                uint32_t key0, uint32_t key1) {
  uint32_t* const c = counter.word;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = uint64_t{kPhiloxMultiplier0} * c[0];
    const uint64_t product1 = uint64_t{kPhiloxMultiplier1} * c[2];
    const uint32_t high0 = static_cast<uint32_t>(product0 >> 32);
    const uint32_t high1 = static_cast<uint32_t>(product1 >> 32);
    c[0] = high1 ^ c[1] ^ key0;
    c[1] = static_cast<uint32_t>(product1);
    c[2] = high0 ^ c[3] ^ key1;
    c[3] = static_cast<uint32_t>(product0);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

// The random word of one token of one row (see kernels/sample.h).
QUIRE_HOST_DEVICE inline uint32_t TokenRandomWord(uint64_t seed,
                                                  int64_t position,
                                                  int32_t token_id) {
  const uint32_t id = static_cast<uint32_t>(token_id);
  const PhiloxWords counter = {{id / 4, static_cast<uint32_t>(position), 0, 0}};
  return Philox4x32(counter, static_cast<uint32_t>(seed),
                    static_cast<uint32_t>(seed >> 32))
      .word[id % 4];
}

}  // namespace quire

#endif  // KERNELS_PHILOX_H_
