// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/rank_sum.h"

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_memory.h"

namespace quire {
namespace {

uint16_t Bf16Of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

float FloatOf(uint16_t bf16) {
  const uint32_t bits = uint32_t{bf16} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The sum of `parts`, each [n], on the device.
template <typename T>
std::vector<T> SumOnDevice(const std::vector<std::vector<T>>& parts,
                           DType dtype) {
  const int64_t n = static_cast<int64_t>(parts[0].size());
  const int64_t bytes = n * sizeof(T);
  const std::unique_ptr<DeviceBuffer> in = *AllocateCuda(bytes * parts.size());
  const std::unique_ptr<DeviceBuffer> out = *AllocateCuda(bytes);
  for (size_t part = 0; part < parts.size(); ++part) {
    cudaMemcpy(in->as<char>() + part * bytes, parts[part].data(), bytes,
               cudaMemcpyHostToDevice);
  }
  cudaMemset(out->data(), 0xff, bytes);
  EXPECT_EQ(LaunchRankSumCuda(in->data(), static_cast<int32_t>(parts.size()),
                              out->data(), n, dtype, nullptr),
            cudaSuccess);
  std::vector<T> sum(n);
  EXPECT_EQ(cudaMemcpy(sum.data(), out->data(), bytes, cudaMemcpyDeviceToHost),
            cudaSuccess);
  return sum;
}

// Float sums depend on the order, so equality shows it.
TEST(RankSumTest, FloatsAreAddedInTheOrderOfParts) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1000);
  for (int64_t n : {1, 3, 4, 4097, 100000, 5000003}) {
    for (size_t num_parts : {1, 2, 3, 8}) {
      std::vector<std::vector<float>> parts(num_parts, std::vector<float>(n));
      for (auto& part : parts) {
        for (float& x : part) x = normal(random);
      }
      std::vector<float> expected = parts[0];
      for (size_t part = 1; part < num_parts; ++part) {
        for (int64_t i = 0; i < n; ++i) expected[i] += parts[part][i];
      }
      ASSERT_EQ(SumOnDevice(parts, DType::kF32), expected)
          << num_parts << " parts of " << n;
    }
  }
}

TEST(RankSumTest, Bf16IsAddedInFloatAndRoundedOnce) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 10);
  for (int64_t n : {1, 7, 8, 1000, 4099}) {
    std::vector<std::vector<uint16_t>> parts(4, std::vector<uint16_t>(n));
    for (auto& part : parts) {
      for (uint16_t& x : part) x = Bf16Of(normal(random));
    }
    std::vector<uint16_t> expected(n);
    for (int64_t i = 0; i < n; ++i) {
      float sum = FloatOf(parts[0][i]);
      for (int part = 1; part < 4; ++part) sum += FloatOf(parts[part][i]);
      expected[i] = Bf16Of(sum);
    }
    ASSERT_EQ(SumOnDevice(parts, DType::kBf16), expected) << n;
  }
}

}  // namespace
}  // namespace quire
