// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/page_select.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/page_select.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// Blocks are far apart: their bounds are fetched so many pages ahead.
constexpr int32_t kPagesAhead = 8;

template <typename T>
const T* BoundsOf(const PageQuery& query, int32_t page) {
  const KvCacheView& cache = query.params->cache;
  return static_cast<const T*>(cache.base) +
         query.block_table[page] * cache.layout.BlockStride() +
         cache.layout.KeyBoundsOffset(cache.layer_idx, query.kv_head);
}

// The larger of `most` and the bounds of kHeads heads on one page. As least <=
// greatest, the larger product is that with the greatest for a positive query
// element, and that with the least for a negative one: `q` holds, for each
// head, its elements with the negative ones 0, then with the positive ones 0.
template <typename T, int kHeads>
HWY_INLINE float BoundHeads(const T* bounds, const float* q, int64_t head_dim,
                            float most) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  FloatVec sum[kHeads];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) sum[h] = hn::Zero(d);
  for (int64_t e = 0; e < head_dim; e += lanes) {
    const int64_t n = head_dim - e;
    const FloatVec least = LoadUpTo(d, bounds + e, n);
    const FloatVec greatest = LoadUpTo(d, bounds + head_dim + e, n);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const float* positive = q + 2 * h * head_dim + e;
      const float* negative = positive + head_dim;
      sum[h] = hn::MulAdd(LoadUpTo(d, positive, n), greatest, sum[h]);
      sum[h] = hn::MulAdd(LoadUpTo(d, negative, n), least, sum[h]);
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    const float bound = hn::GetLane(hn::SumOfLanes(d, sum[h]));
    // What cannot be bounded is read.
    if (std::isnan(bound)) return std::numeric_limits<float>::infinity();
    most = std::max(most, bound);
  }
  return most;
}

// scores[page] for pages [begin, end).
template <typename T>
void ScorePages(const PageQuery& query, const float* q, int32_t begin,
                int32_t end, float* scores) {
  const KvLayout& layout = query.params->cache.layout;
  const int64_t head_dim = layout.head_dim;
  const int32_t group = query.params->num_q_heads / layout.num_kv_heads;
  const int64_t bytes = 2 * head_dim * sizeof(T);
  for (int32_t page = begin; page < end; ++page) {
    if (page + kPagesAhead < end) {
      const auto* next =
          reinterpret_cast<const char*>(BoundsOf<T>(query, page + kPagesAhead));
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(next + at);
    }
    const T* bounds = BoundsOf<T>(query, page);
    float most = -std::numeric_limits<float>::infinity();
    int32_t head = 0;
    for (; head + 4 <= group; head += 4) {
      most = BoundHeads<T, 4>(bounds, q + 2 * head * head_dim, head_dim, most);
    }
    for (; head < group; ++head) {
      most = BoundHeads<T, 1>(bounds, q + 2 * head * head_dim, head_dim, most);
    }
    scores[page] = most;
  }
}

// The group's queries as BoundHeads wants them: [group, 2, head_dim].
template <typename T>
void SplitQueries(const PageQuery& query, float* q) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const AttentionParams& params = *query.params;
  const int64_t head_dim = params.cache.layout.head_dim;
  const int32_t group = params.num_q_heads / params.cache.layout.num_kv_heads;
  const T* from = static_cast<const T*>(params.q) +
                  query.token * params.q_stride +
                  int64_t{query.kv_head} * group * head_dim;
  const FloatVec zero = hn::Zero(d);
  for (int32_t head = 0; head < group; ++head) {
    for (int64_t e = 0; e < head_dim; e += lanes) {
      const int64_t n = head_dim - e;
      const FloatVec x = LoadUpTo(d, from + head * head_dim + e, n);
      float* to = q + 2 * head * head_dim + e;
      StoreUpTo(hn::Max(x, zero), d, to, n);
      StoreUpTo(hn::Min(x, zero), d, to + head_dim, n);
    }
  }
}

void ScorePagesF32(const PageQuery& query, int32_t begin, int32_t end, float* q,
                   float* scores) {
  SplitQueries<float>(query, q);
  ScorePages<float>(query, q, begin, end, scores);
}

void ScorePagesBf16(const PageQuery& query, int32_t begin, int32_t end,
                    float* q, float* scores) {
  SplitQueries<Bf16>(query, q);
  ScorePages<Bf16>(query, q, begin, end, scores);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(ScorePagesF32);
HWY_EXPORT(ScorePagesBf16);

}  // namespace

void SelectPages(const PageQuery& query, int thread, PageWorkspace* workspace,
                 int32_t* table) {
  const AttentionParams& params = *query.params;
  const KvLayout& layout = params.cache.layout;
  const auto score = layout.dtype == DType::kF32
                         ? HWY_DYNAMIC_DISPATCH(ScorePagesF32)
                         : HWY_DYNAMIC_DISPATCH(ScorePagesBf16);
  const int32_t own = query.position / layout.block_size;
  // The first page and the two most recent ones are read unseen.
  const int32_t begin = 1;
  const int32_t end = own - 1;
  const int32_t num_chosen = params.sparse.num_pages - 3;
  const int64_t group = params.num_q_heads / layout.num_kv_heads;
  const int64_t query_size = 2 * group * layout.head_dim;
  float* q = workspace->scores.Get<float>(thread, query_size + own);
  float* scores = q + query_size;
  score(query, begin, end, q, scores);

  int32_t* order = workspace->order.Get<int32_t>(thread, own);
  std::iota(order, order + end - begin, begin);
  // A strict order, so the set does not depend on the algorithm.
  std::nth_element(order, order + num_chosen, order + end - begin,
                   [scores](int32_t a, int32_t b) {
                     return scores[a] > scores[b] ||
                            (scores[a] == scores[b] && a < b);
                   });
  std::sort(order, order + num_chosen);
  *table++ = query.block_table[0];
  for (int32_t i = 0; i < num_chosen; ++i) {
    *table++ = query.block_table[order[i]];
  }
  *table++ = query.block_table[own - 1];
  *table = query.block_table[own];
}

}  // namespace quire
#endif  // HWY_ONCE
