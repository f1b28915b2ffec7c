// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/rank_sum.h"

#include <algorithm>
#include <cstring>

namespace quire {
namespace {

// Elements added at a time: the accumulator stays in the first-level cache.
constexpr int64_t kChunk = 1024;
// Elements of a part's unit: 64 bytes of the narrowest type.
constexpr int64_t kPartUnit = 32;

float FloatOf(uint16_t bf16) {
  const uint32_t bits = static_cast<uint32_t>(bf16) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Round to nearest, ties to even; a NaN stays one.
uint16_t Bf16Of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits >> 16) | 0x40;
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

void Load(const void* src, int64_t first, int64_t n, DType dtype, float* out) {
  if (dtype == DType::kF32) {
    std::copy_n(static_cast<const float*>(src) + first, n, out);
    return;
  }
  const uint16_t* from = static_cast<const uint16_t*>(src) + first;
  for (int64_t i = 0; i < n; ++i) out[i] = FloatOf(from[i]);
}

void Accumulate(const void* src, int64_t first, int64_t n, DType dtype,
                float* sum) {
  if (dtype == DType::kF32) {
    const float* from = static_cast<const float*>(src) + first;
    for (int64_t i = 0; i < n; ++i) sum[i] += from[i];
    return;
  }
  const uint16_t* from = static_cast<const uint16_t*>(src) + first;
  for (int64_t i = 0; i < n; ++i) sum[i] += FloatOf(from[i]);
}

void Store(const float* sum, int64_t first, int64_t n, DType dtype, void* out) {
  if (dtype == DType::kF32) {
    std::copy_n(sum, n, static_cast<float*>(out) + first);
    return;
  }
  uint16_t* to = static_cast<uint16_t*>(out) + first;
  for (int64_t i = 0; i < n; ++i) to[i] = Bf16Of(sum[i]);
}

}  // namespace

void SumInRankOrder(absl::Span<const void* const> sources, void* out,
                    int64_t num_elements, DType dtype) {
  float sum[kChunk];
  for (int64_t first = 0; first < num_elements; first += kChunk) {
    const int64_t n = std::min(kChunk, num_elements - first);
    Load(sources[0], first, n, dtype, sum);
    for (size_t rank = 1; rank < sources.size(); ++rank) {
      Accumulate(sources[rank], first, n, dtype, sum);
    }
    Store(sum, first, n, dtype, out);
  }
}

RankPart PartOf(int64_t num_elements, int32_t part, int32_t num_parts) {
  const int64_t units = (num_elements + kPartUnit - 1) / kPartUnit;
  const int64_t units_per_part = (units + num_parts - 1) / num_parts;
  const int64_t stride = units_per_part * kPartUnit;
  return {std::min(num_elements, part * stride),
          std::min(num_elements, (part + 1) * stride)};
}

}  // namespace quire
