// SPDX-License-Identifier: Apache-2.0
//
// The two 16-bit floating formats, bit by bit.
#ifndef WORKER_WEIGHTS_FLOAT16_H_
#define WORKER_WEIGHTS_FLOAT16_H_

#include <bit>
#include <cstdint>

namespace quire {

// IEEE 754 binary16 to binary32: exact, subnormals, infinities and NaN too.
inline float Float16ToFloat(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude << 13));
  }
  // As a float, exponent and mantissa are 2^112 times too small, whether the
  // half is normal or subnormal; the product is exact.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

// binary32 to bfloat16, to nearest, ties to even; NaN stays NaN.
inline uint16_t FloatToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace quire

#endif  // WORKER_WEIGHTS_FLOAT16_H_
