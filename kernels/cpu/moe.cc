// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/moe.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/bf16.h"

namespace quire {
namespace {

// The best experts of one token, by falling logit; what is not a number is less
// than any.
void RouteToken(const RouteTokensParams& params, int64_t token) {
  const float* logits = params.logits + token * params.logits_stride;
  int32_t* experts = params.experts + token * params.top_k;
  float* weights = params.weights + token * params.top_k;
  bool is_taken[kMaxExperts] = {};
  for (int32_t i = 0; i < params.top_k; ++i) {
    int32_t best = -1;
    for (int32_t e = 0; e < params.num_experts; ++e) {
      if (is_taken[e]) continue;
      if (best < 0 || logits[e] > logits[best] ||
          (std::isnan(logits[best]) && !std::isnan(logits[e]))) {
        best = e;
      }
    }
    is_taken[best] = true;
    experts[i] = best;
  }
  const float top = logits[experts[0]];
  float chosen = 0, all = 0;
  for (int32_t i = 0; i < params.top_k; ++i) {
    weights[i] = std::exp(logits[experts[i]] - top);
    chosen += weights[i];
  }
  for (int32_t e = 0; e < params.num_experts; ++e) {
    all += std::exp(logits[e] - top);
  }
  const float sum = params.renormalize ? chosen : all;
  for (int32_t i = 0; i < params.top_k; ++i) weights[i] /= sum;
}

// Counts each expert's pairs, then deals them out in their order.
void GroupPairs(const RouteTokensParams& params) {
  const int64_t num_pairs = int64_t{params.num_tokens} * params.top_k;
  int32_t* start = params.expert_start;
  std::fill_n(start, params.num_experts + 1, 0);
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    ++start[params.experts[pair] + 1];
  }
  int32_t next[kMaxExperts];
  for (int32_t e = 0; e < params.num_experts; ++e) {
    start[e + 1] += start[e];
    next[e] = start[e];
  }
  for (int64_t pair = 0; pair < num_pairs; ++pair) {
    const int32_t row = next[params.experts[pair]]++;
    params.pair_rows[pair] = row;
    params.row_tokens[row] = static_cast<int32_t>(pair / params.top_k);
  }
}

void StoreAs(float value, float* to) { *to = value; }
void StoreAs(float value, Bf16* to) { *to = ToBf16(value); }

// Columns that are summed at once: they stay in the first-level cache.
constexpr int64_t kColumns = 512;

template <typename T>
void CombineToken(const CombineExpertsParams& params, int64_t token) {
  const int32_t* rows = params.pair_rows + token * params.top_k;
  const float* weights = params.weights + token * params.top_k;
  const int64_t width = params.width;
  const float gate =
      params.gate == nullptr
          ? 1.0f
          : 1.0f / (1.0f + std::exp(-params.gate[token * params.gate_stride]));
  for (int64_t begin = 0; begin < width; begin += kColumns) {
    const int64_t count = std::min(kColumns, width - begin);
    float sums[kColumns] = {};
    const auto add = [&](const void* values, int64_t row, float weight) {
      const T* from = static_cast<const T*>(values) + row * width + begin;
      for (int64_t i = 0; i < count; ++i) {
        sums[i] += weight * ToFloat(from[i]);
      }
    };
    for (int32_t i = 0; i < params.top_k; ++i) {
      add(params.y, rows[i], weights[i]);
    }
    if (params.shared != nullptr) add(params.shared, token, gate);
    T* out = static_cast<T*>(params.out) + token * width + begin;
    for (int64_t i = 0; i < count; ++i) StoreAs(sums[i], out + i);
  }
}

}  // namespace

void RouteTokensCpu(const RouteTokensParams& params, const ThreadTeam& team) {
  team.For(params.num_tokens, /*grain=*/16,
           [&](int, int64_t begin, int64_t end) {
             for (int64_t token = begin; token < end; ++token) {
               RouteToken(params, token);
             }
           });
  GroupPairs(params);
}

void CombineExpertsCpu(const CombineExpertsParams& params,
                       const ThreadTeam& team) {
  team.For(params.num_tokens, /*grain=*/4,
           [&](int, int64_t begin, int64_t end) {
             for (int64_t token = begin; token < end; ++token) {
               if (params.dtype == DType::kF32) {
                 CombineToken<float>(params, token);
               } else {
                 CombineToken<Bf16>(params, token);
               }
             }
           });
}

}  // namespace quire
