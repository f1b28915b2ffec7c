// SPDX-License-Identifier: Apache-2.0
//
// The arithmetic of attention, compiled once per instruction set. Everything is
// float; positions inside a split are relative to its first.

// Per-target include guard.
#if defined(KERNELS_CPU_ATTENTION_KERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KERNELS_CPU_ATTENTION_KERNEL_INL_H_
#undef KERNELS_CPU_ATTENTION_KERNEL_INL_H_
#else
#define KERNELS_CPU_ATTENTION_KERNEL_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// Rows that share the loads of keys and values, and vectors per row: together
// the accumulators that fit the registers.
constexpr int kSharedRows = 4;
constexpr int kSharedVectors = HWY_MAX_BYTES >= 64 ? 4 : 2;

// Transposes four positions' elements [0, head_dim): element e of position i
// goes to to[e * kKeyChunk + i].
HWY_INLINE void TransposeKeys(const float* const rows[4], int32_t head_dim,
                              float* to) {
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<uint64_t, 2> d64;
  int32_t e = 0;
  for (; e + 4 <= head_dim; e += 4) {
    const auto a = hn::LoadU(d, rows[0] + e);
    const auto b = hn::LoadU(d, rows[1] + e);
    const auto c = hn::LoadU(d, rows[2] + e);
    const auto f = hn::LoadU(d, rows[3] + e);
    const auto ab0 = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
    const auto ab1 = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
    const auto cf0 = hn::BitCast(d64, hn::InterleaveLower(d, c, f));
    const auto cf1 = hn::BitCast(d64, hn::InterleaveUpper(d, c, f));
    float* out = to + e * kKeyChunk;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab0, cf0)), d, out);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab0, cf0)), d,
               out + kKeyChunk);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, ab1, cf1)), d,
               out + 2 * kKeyChunk);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, ab1, cf1)), d,
               out + 3 * kKeyChunk);
  }
  for (; e < head_dim; ++e) {
    for (int i = 0; i < 4; ++i) to[e * kKeyChunk + i] = rows[i][e];
  }
}

// The same for bfloat16, whose elements are transposed in pairs.
HWY_INLINE void TransposeKeys(const Bf16* const rows[4], int32_t head_dim,
                              float* to) {
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<uint32_t, 4> d32;
  const hn::FixedTag<uint64_t, 2> d64;
  const auto load = [&](const Bf16* p) {
    return hn::BitCast(d32, hn::LoadU(hn::FixedTag<uint8_t, 16>(),
                                      reinterpret_cast<const uint8_t*>(p)));
  };
  const auto upper = hn::Set(d32, 0xffff0000u);
  const auto store = [&](decltype(hn::Zero(d64)) pairs, float* out) {
    const auto bits = hn::BitCast(d32, pairs);
    hn::StoreU(hn::BitCast(d, hn::ShiftLeft<16>(bits)), d, out);
    hn::StoreU(hn::BitCast(d, hn::And(bits, upper)), d, out + kKeyChunk);
  };
  int32_t e = 0;
  for (; e + 8 <= head_dim; e += 8) {
    const auto a = load(rows[0] + e), b = load(rows[1] + e);
    const auto c = load(rows[2] + e), f = load(rows[3] + e);
    const auto ab0 = hn::BitCast(d64, hn::InterleaveLower(d32, a, b));
    const auto ab1 = hn::BitCast(d64, hn::InterleaveUpper(d32, a, b));
    const auto cf0 = hn::BitCast(d64, hn::InterleaveLower(d32, c, f));
    const auto cf1 = hn::BitCast(d64, hn::InterleaveUpper(d32, c, f));
    float* out = to + e * kKeyChunk;
    store(hn::InterleaveLower(d64, ab0, cf0), out);
    store(hn::InterleaveUpper(d64, ab0, cf0), out + 2 * kKeyChunk);
    store(hn::InterleaveLower(d64, ab1, cf1), out + 4 * kKeyChunk);
    store(hn::InterleaveUpper(d64, ab1, cf1), out + 6 * kKeyChunk);
  }
  for (; e < head_dim; ++e) {
    for (int i = 0; i < 4; ++i) to[e * kKeyChunk + i] = ToFloat(rows[i][e]);
  }
}

// The keys (and, HeadsStride() further, values) of one position.
template <typename T>
const T* KeyAt(const AttentionTile& tile, int32_t position) {
  const KvCacheView& cache = tile.params->cache;
  const KvLayout& layout = cache.layout;
  const int64_t block = tile.block_table[position / layout.block_size];
  return static_cast<const T*>(cache.base) + block * layout.BlockStride() +
         cache.layer_idx * layout.LayerStride() +
         tile.kv_head * layout.HeadStride() +
         position % layout.block_size * layout.TokenStride();
}

// Fetches the keys and values of the four positions one block after `position`:
// a block is too short a run for hardware prefetchers to learn.
// REQUIRES: heads are contiguous.
template <typename T>
HWY_INLINE void PrefetchNextBlock(const AttentionTile& tile, int32_t position,
                                  int32_t end) {
  const KvLayout& layout = tile.params->cache.layout;
  const int32_t next = position + layout.block_size;
  if (next >= end) return;
  const char* keys = reinterpret_cast<const char*>(KeyAt<T>(tile, next));
  const int64_t values = layout.HeadsStride() * sizeof(T);
  const int64_t bytes = 4 * layout.head_dim * sizeof(T);
  for (int64_t at = 0; at < bytes; at += 64) {
    __builtin_prefetch(keys + at);
    __builtin_prefetch(keys + values + at);
  }
}

// The same where every token lies apart: four positions, kTokensAhead later.
// REQUIRES: they are in the same block.
constexpr int32_t kTokensAhead = 16;
template <typename T>
HWY_INLINE void PrefetchTokens(const T* keys, const KvLayout& layout) {
  const int64_t bytes = layout.head_dim * sizeof(T);
  for (int64_t i = 0; i < 4; ++i) {
    const T* key = keys + (kTokensAhead + i) * layout.TokenStride();
    const T* value = key + layout.HeadsStride();
    for (int64_t at = 0; at < bytes; at += 64) {
      __builtin_prefetch(reinterpret_cast<const char*>(key) + at);
      __builtin_prefetch(reinterpret_cast<const char*>(value) + at);
    }
  }
}

// Brings positions [begin, end) of the split that starts at `start` into the
// buffers: keys transposed, values padded with zeros.
template <typename T>
void LoadKeysAndValues(const AttentionTile& tile, int32_t start, int32_t begin,
                       int32_t end, const AttentionBuffers& buffers) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const KvLayout& layout = tile.params->cache.layout;
  const int32_t head_dim = layout.head_dim;
  const int64_t padded = PaddedHeadDim(head_dim);
  const int64_t heads_stride = layout.HeadsStride();
  const int64_t token_stride = layout.TokenStride();
  const bool apart = layout.order == KvOrder::kTokens;
  // Whether four positions from a multiple of four on lie in one block.
  const bool together = layout.block_size % 4 == 0;
  for (int32_t four = begin & ~3; four < end; four += 4) {
    const T* block = together ? KeyAt<T>(tile, start + four) : nullptr;
    if (apart && together && four + kTokensAhead < end) {
      PrefetchTokens(block, layout);
    } else if (together && !apart && layout.block_size <= kKeyChunk) {
      PrefetchNextBlock<T>(tile, start + four, tile.End(tile.num_rows() - 1));
    }
    const T* keys[4];
    for (int i = 0; i < 4; ++i) {
      const int32_t position = std::clamp(four + i, begin, end - 1);
      keys[i] = together ? block + (position - four) * token_stride
                         : KeyAt<T>(tile, start + position);
      if (position != four + i) continue;
      const T* value = keys[i] + heads_stride;
      float* to = buffers.values + position * padded;
      for (int64_t e = 0; e < head_dim; e += lanes) {
        hn::Store(LoadUpTo(d, value + e, head_dim - e), d, to + e);
      }
    }
    const int64_t chunk = four / kKeyChunk;
    TransposeKeys(
        keys, head_dim,
        buffers.keys + chunk * head_dim * kKeyChunk + four % kKeyChunk);
  }
}

// Scores of kRows rows against one chunk of transposed keys.
template <int kRows>
HWY_INLINE void ScoreRows(const float* q, int32_t head_dim, const float* keys,
                          float scale, float* scores) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const FloatVec scale_vec = hn::Set(d, scale);
  for (int64_t at = 0; at < kKeyChunk; at += kSharedVectors * lanes) {
    FloatVec sum[kRows][kSharedVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kSharedVectors; ++v) sum[r][v] = hn::Zero(d);
    }
    for (int32_t e = 0; e < head_dim; ++e) {
      const float* key = keys + e * kKeyChunk + at;
      FloatVec k[kSharedVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kSharedVectors; ++v)
        k[v] = hn::Load(d, key + v * lanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const FloatVec query = hn::Set(d, q[r * head_dim + e]);
#pragma GCC unroll 4
        for (int v = 0; v < kSharedVectors; ++v) {
          sum[r][v] = hn::MulAdd(query, k[v], sum[r][v]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kSharedVectors; ++v) {
        hn::Store(hn::Mul(sum[r][v], scale_vec), d,
                  scores + r * kAttentionSplit + at + v * lanes);
      }
    }
  }
}

// Turns one row's scores into weights e^(score - max) over [begin, end).
// REQUIRES: begin < end.
HWY_INLINE void SoftmaxRow(float* scores, int32_t begin, int32_t end,
                           float* row_max, float* row_sum) {
  const FloatTag d;
  const hn::RebindToSigned<FloatTag> di;
  const int32_t lanes = hn::Lanes(d);
  const int32_t first = begin / lanes * lanes;
  const auto inside = [&](int32_t at) {
    const auto index = hn::Iota(di, at);
    const auto too_early = hn::Lt(index, hn::Set(di, begin));
    const auto in_time = hn::Lt(index, hn::Set(di, end));
    return hn::RebindMask(d, hn::AndNot(too_early, in_time));
  };
  const auto whole = [&](int32_t at) {
    return at >= begin && at + lanes <= end;
  };
  FloatVec max = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int32_t at = first; at < end; at += lanes) {
    const FloatVec larger = hn::Max(max, hn::Load(d, scores + at));
    max = whole(at) ? larger : hn::IfThenElse(inside(at), larger, max);
  }
  max = hn::MaxOfLanes(d, max);
  FloatVec sum = hn::Zero(d);
  for (int32_t at = first; at < end; at += lanes) {
    const FloatVec score = hn::Load(d, scores + at);
    FloatVec weight = ExpOfNegative(d, hn::Sub(score, max));
    if (!whole(at)) weight = hn::IfThenElseZero(inside(at), weight);
    sum = hn::Add(sum, weight);
    hn::Store(weight, d, scores + at);
  }
  *row_max = hn::GetLane(max);
  *row_sum = hn::GetLane(hn::SumOfLanes(d, sum));
}

// out[r] += weights[r][p] * values[p] for p in [begin, end), in that order,
// over kVectors vectors of elements.
template <int kRows, int kVectors>
HWY_INLINE void AccumulateValues(const float* weights, const float* values,
                                 int64_t padded, int32_t begin, int32_t end,
                                 float* out) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  FloatVec sum[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = hn::Load(d, out + r * padded + v * lanes);
    }
  }
  for (int32_t p = begin; p < end; ++p) {
    FloatVec value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      value[v] = hn::Load(d, values + p * padded + v * lanes);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const FloatVec weight = hn::Set(d, weights[r * kAttentionSplit + p]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = hn::MulAdd(weight, value[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(sum[r][v], d, out + r * padded + v * lanes);
    }
  }
}

// The same over a whole padded head.
template <int kRows>
void AccumulateHead(const float* weights, const float* values, int64_t padded,
                    int32_t begin, int32_t end, float* out) {
  if (begin >= end) return;
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  int64_t e = 0;
  for (; e + kSharedVectors * lanes <= padded; e += kSharedVectors * lanes) {
    AccumulateValues<kRows, kSharedVectors>(weights, values + e, padded, begin,
                                            end, out + e);
  }
  for (; e < padded; e += lanes) {
    AccumulateValues<kRows, 1>(weights, values + e, padded, begin, end,
                               out + e);
  }
}

// state = state merged with the state of the positions that follow it.
HWY_INLINE void MergeRow(const AttentionState& next, int64_t row,
                         int64_t padded, const AttentionState& state) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const float max = std::max(state.max[row], next.max[row]);
  const FloatVec old_scale = ExpOfNegative(d, hn::Set(d, state.max[row] - max));
  const FloatVec new_scale = ExpOfNegative(d, hn::Set(d, next.max[row] - max));
  float* out = state.out + row * padded;
  const float* add = next.out + row * padded;
  for (int64_t e = 0; e < padded; e += lanes) {
    const FloatVec scaled = hn::Mul(hn::Load(d, out + e), old_scale);
    hn::Store(hn::MulAdd(hn::Load(d, add + e), new_scale, scaled), d, out + e);
  }
  const FloatVec sum =
      hn::MulAdd(hn::Set(d, next.sum[row]), new_scale,
                 hn::Mul(hn::Set(d, state.sum[row]), old_scale));
  state.sum[row] = hn::GetLane(sum);
  state.max[row] = max;
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
