// SPDX-License-Identifier: Apache-2.0
//
// bfloat16: the upper half of a float.
#ifndef KERNELS_CPU_BF16_H_
#define KERNELS_CPU_BF16_H_

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace quire {

struct Bf16 {
  uint16_t bits;
};

inline float ToFloat(float value) { return value; }
inline float ToFloat(Bf16 value) {
  const uint32_t bits = uint32_t{value.bits} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

// Rounds to nearest, ties to even; NaN stays NaN.
inline Bf16 ToBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  }
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

template <typename T>
inline T FromFloat(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return ToBf16(value);
  }
}

}  // namespace quire

#endif  // KERNELS_CPU_BF16_H_
