// SPDX-License-Identifier: Apache-2.0
//
// Arrays of either model dtype for kernel tests: filled at random or poisoned,
// read as double.
#ifndef TESTS_KERNELS_TENSOR_H_
#define TESTS_KERNELS_TENSOR_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cpu/bf16.h"
#include "kernels/dtype.h"

namespace quire {

// Exactly as large as its elements, so that AddressSanitizer sees an overrun.
class Tensor {
 public:
  // Every element NaN: what an operation does not write stays visible.
  Tensor(DType dtype, int64_t size)
      : dtype_(dtype), size_(size), bytes_(size * SizeOf(dtype)) {
    for (int64_t i = 0; i < size; ++i) {
      Set(i, std::numeric_limits<float>::quiet_NaN());
    }
  }

  // Normal with mean 0; the same for equal seeds.
  static Tensor Random(DType dtype, int64_t size, uint32_t seed,
                       float deviation = 1.0f) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0f, deviation);
    Tensor tensor(dtype, size);
    for (int64_t i = 0; i < size; ++i) tensor.Set(i, normal(generator));
    return tensor;
  }

  DType dtype() const { return dtype_; }
  int64_t size() const { return size_; }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  // The address of element `i`.
  void* At(int64_t i) { return bytes_.data() + i * SizeOf(dtype_); }
  const void* At(int64_t i) const { return bytes_.data() + i * SizeOf(dtype_); }

  void Set(int64_t i, float value) {
    if (dtype_ == DType::kF32) {
      std::memcpy(At(i), &value, sizeof(value));
    } else {
      const Bf16 rounded = ToBf16(value);
      std::memcpy(At(i), &rounded, sizeof(rounded));
    }
  }

  double operator[](int64_t i) const {
    if (dtype_ == DType::kF32) {
      float value;
      std::memcpy(&value, At(i), sizeof(value));
      return value;
    }
    Bf16 value;
    std::memcpy(&value, At(i), sizeof(value));
    return ToFloat(value);
  }

  // Elements [begin, begin + count).
  std::vector<double> Doubles(int64_t begin, int64_t count) const {
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) values.push_back((*this)[begin + i]);
    return values;
  }
  std::vector<double> Doubles() const { return Doubles(0, size_); }

  bool SameBits(const Tensor& other) const { return bytes_ == other.bytes_; }
  // Whether elements [begin, begin + count) are those of `other` from
  // `other_begin` on, bit by bit.
  bool SameBits(int64_t begin, const Tensor& other, int64_t other_begin,
                int64_t count) const {
    return std::memcmp(At(begin), other.At(other_begin),
                       count * SizeOf(dtype_)) == 0;
  }

 private:
  DType dtype_;
  int64_t size_;
  std::vector<uint8_t> bytes_;
};

// Half the distance between neighbours near 1: the largest relative error of
// one rounding to `dtype`.
inline double UnitRoundoff(DType dtype) {
  return dtype == DType::kF32 ? std::ldexp(1.0, -24) : std::ldexp(1.0, -8);
}

}  // namespace quire

#endif  // TESTS_KERNELS_TENSOR_H_
