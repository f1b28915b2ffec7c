// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/attention_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/attention_kernel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// The queries of a tile, as float.
template <typename T>
void LoadQueries(const AttentionTile& tile, float* q) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const int32_t head_dim = tile.params->cache.layout.head_dim;
  for (int32_t row = 0; row < tile.num_rows(); ++row) {
    const int64_t token = tile.first_token + row / tile.group;
    const int64_t head = tile.kv_head * tile.group + row % tile.group;
    const T* from = static_cast<const T*>(tile.params->q) +
                    token * tile.params->q_stride + head * head_dim;
    for (int64_t e = 0; e < head_dim; e += lanes) {
      StoreUpTo(LoadUpTo(d, from + e, head_dim - e), d, q + row * head_dim + e,
                head_dim - e);
    }
  }
}

// kRows rows of a tile from `row` on, against one split: scores, softmax,
// weighted sum of values.
template <int kRows>
void AttendRows(const AttentionTile& tile, int32_t row, int32_t start,
                const AttentionBuffers& buffers, const AttentionState& state) {
  const int32_t head_dim = tile.params->cache.layout.head_dim;
  const int64_t padded = PaddedHeadDim(head_dim);
  float* scores = buffers.scores + row * kAttentionSplit;
  float* out = state.out + row * padded;
  int32_t begin[kRows], end[kRows];
  int32_t first = kAttentionSplit, last = 0;  // any row's positions
  int32_t shared_begin = 0, shared_end = kAttentionSplit;  // every row's
  for (int r = 0; r < kRows; ++r) {
    begin[r] = std::clamp(tile.Begin(row + r) - start, 0, kAttentionSplit);
    end[r] = std::clamp(tile.End(row + r) - start, begin[r], kAttentionSplit);
    if (begin[r] < end[r]) {
      first = std::min(first, begin[r]);
      last = std::max(last, end[r]);
    }
    shared_begin = std::max(shared_begin, begin[r]);
    shared_end = std::min(shared_end, end[r]);
  }
  for (int32_t at = first / kKeyChunk * kKeyChunk; at < last; at += kKeyChunk) {
    ScoreRows<kRows>(buffers.q + row * head_dim, head_dim,
                     buffers.keys + int64_t{at} * head_dim, tile.params->scale,
                     scores + at);
  }
  std::fill(out, out + kRows * padded, 0.0f);
  const bool share = shared_begin < shared_end;
  for (int r = 0; r < kRows; ++r) {
    state.max[row + r] = -std::numeric_limits<float>::infinity();
    state.sum[row + r] = 0.0f;
    if (begin[r] == end[r]) continue;
    float* weights = scores + r * kAttentionSplit;
    SoftmaxRow(weights, begin[r], end[r], &state.max[row + r],
               &state.sum[row + r]);
    AccumulateHead<1>(weights, buffers.values, padded, begin[r],
                      share ? shared_begin : end[r], out + r * padded);
  }
  if (!share) return;
  AccumulateHead<kRows>(scores, buffers.values, padded, shared_begin,
                        shared_end, out);
  for (int r = 0; r < kRows; ++r) {
    AccumulateHead<1>(scores + r * kAttentionSplit, buffers.values, padded,
                      shared_end, end[r], out + r * padded);
  }
}

// The states of a tile's rows over one split.
template <typename T>
void AttendSplit(const AttentionTile& tile, int32_t split,
                 const AttentionBuffers& buffers, const AttentionState& state) {
  const int32_t start = split * kAttentionSplit;
  const int32_t num_rows = tile.num_rows();
  LoadKeysAndValues<T>(
      tile, start, std::max(0, tile.Begin(0) - start),
      std::min(kAttentionSplit, tile.End(num_rows - 1) - start), buffers);
  int32_t row = 0;
  for (; row + kSharedRows <= num_rows; row += kSharedRows) {
    AttendRows<kSharedRows>(tile, row, start, buffers, state);
  }
  switch (num_rows - row) {
    case 3:
      return AttendRows<3>(tile, row, start, buffers, state);
    case 2:
      return AttendRows<2>(tile, row, start, buffers, state);
    case 1:
      return AttendRows<1>(tile, row, start, buffers, state);
  }
}

void ClearState(const AttentionTile& tile, const AttentionState& state) {
  const int64_t padded = PaddedHeadDim(tile.params->cache.layout.head_dim);
  const int32_t num_rows = tile.num_rows();
  std::fill(state.out, state.out + num_rows * padded, 0.0f);
  std::fill(state.max, state.max + num_rows,
            -std::numeric_limits<float>::infinity());
  std::fill(state.sum, state.sum + num_rows, 0.0f);
}

void MergeStates(const AttentionTile& tile, const AttentionState& next,
                 const AttentionState& state) {
  const int64_t padded = PaddedHeadDim(tile.params->cache.layout.head_dim);
  for (int32_t row = 0; row < tile.num_rows(); ++row) {
    if (next.sum[row] > 0.0f) MergeRow(next, row, padded, state);
  }
}

// Writes the final states out as T.
template <typename T>
void StoreOutput(const AttentionTile& tile, const AttentionState& state) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const AttentionParams& params = *tile.params;
  const int64_t head_dim = params.cache.layout.head_dim;
  const int64_t padded = PaddedHeadDim(params.cache.layout.head_dim);
  for (int32_t row = 0; row < tile.num_rows(); ++row) {
    const int64_t token = tile.first_token + row / tile.group;
    const int64_t head = tile.kv_head * tile.group + row % tile.group;
    T* to = static_cast<T*>(params.out) +
            (token * params.num_q_heads + head) * head_dim;
    const FloatVec inverse = hn::Set(d, 1.0f / state.sum[row]);
    for (int64_t e = 0; e < head_dim; e += lanes) {
      const FloatVec out = hn::Load(d, state.out + row * padded + e);
      StoreUpTo(hn::Mul(out, inverse), d, to + e, head_dim - e);
    }
  }
}

// A whole tile, split after split.
template <typename T>
void AttendTile(const AttentionTile& tile, const AttentionBuffers& buffers) {
  LoadQueries<T>(tile, buffers.q);
  ClearState(tile, buffers.state);
  for (int32_t split = tile.first_split(); split < tile.end_split(); ++split) {
    AttendSplit<T>(tile, split, buffers, buffers.split_state);
    MergeStates(tile, buffers.split_state, buffers.state);
  }
  StoreOutput<T>(tile, buffers.state);
}

// One split of a tile, whose state another call merges.
template <typename T>
void AttendOneSplit(const AttentionTile& tile, int32_t split,
                    const AttentionBuffers& buffers,
                    const AttentionState& state) {
  LoadQueries<T>(tile, buffers.q);
  AttendSplit<T>(tile, split, buffers, state);
}

// Merges the states of a tile's splits, `stride` floats apart, in order.
template <typename T>
void MergeSplits(const AttentionTile& tile, float* states, int64_t rows,
                 int64_t stride, const AttentionBuffers& buffers) {
  const int64_t padded = PaddedHeadDim(tile.params->cache.layout.head_dim);
  ClearState(tile, buffers.state);
  for (int32_t split = tile.first_split(); split < tile.end_split(); ++split) {
    MergeStates(tile, AttentionState::At(states, rows, padded), buffers.state);
    states += stride;
  }
  StoreOutput<T>(tile, buffers.state);
}

void AttendTileF32(const AttentionTile& tile, const AttentionBuffers& buffers) {
  AttendTile<float>(tile, buffers);
}
void AttendTileBf16(const AttentionTile& tile,
                    const AttentionBuffers& buffers) {
  AttendTile<Bf16>(tile, buffers);
}
void AttendOneSplitF32(const AttentionTile& tile, int32_t split,
                       const AttentionBuffers& buffers,
                       const AttentionState& state) {
  AttendOneSplit<float>(tile, split, buffers, state);
}
void AttendOneSplitBf16(const AttentionTile& tile, int32_t split,
                        const AttentionBuffers& buffers,
                        const AttentionState& state) {
  AttendOneSplit<Bf16>(tile, split, buffers, state);
}
void MergeSplitsF32(const AttentionTile& tile, float* states, int64_t rows,
                    int64_t stride, const AttentionBuffers& buffers) {
  MergeSplits<float>(tile, states, rows, stride, buffers);
}
void MergeSplitsBf16(const AttentionTile& tile, float* states, int64_t rows,
                     int64_t stride, const AttentionBuffers& buffers) {
  MergeSplits<Bf16>(tile, states, rows, stride, buffers);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(AttendTileF32);
HWY_EXPORT(AttendTileBf16);
HWY_EXPORT(AttendOneSplitF32);
HWY_EXPORT(AttendOneSplitBf16);
HWY_EXPORT(MergeSplitsF32);
HWY_EXPORT(MergeSplitsBf16);

// One call's tiles: for each sequence, for each KV head, for each run of
// tokens_per_tile new tokens; then each sparse token, which comes after those
// that are not.
class TileList {
 public:
  TileList(const AttentionParams& params, AttentionWorkspace* workspace)
      : params_(params),
        num_kv_heads_(params.cache.layout.num_kv_heads),
        group_(params.num_q_heads / num_kv_heads_),
        tokens_per_tile_(std::max(1, kAttentionRows / group_)),
        first_(workspace->first_items.Get<int64_t>(2 * params.num_seqs + 2)),
        first_sparse_(first_ + params.num_seqs + 1) {
    first_[0] = 0;
    first_sparse_[0] = 0;
    for (int32_t seq = 0; seq < params.num_seqs; ++seq) {
      const int32_t num_dense = DenseTokens(seq);
      const int32_t num_sparse = NewTokens(seq) - num_dense;
      first_[seq + 1] =
          first_[seq] + int64_t{DenseTiles(seq) + num_sparse} * num_kv_heads_;
      first_sparse_[seq + 1] =
          first_sparse_[seq] + int64_t{num_sparse} * num_kv_heads_;
      if (num_dense > 0) {
        AddContext(FirstPosition(seq) + num_dense,
                   std::min(num_dense, tokens_per_tile_));
      }
      if (num_sparse > 0) AddContext(SparseContext(), 1);
    }
    page_tables_ = workspace->page_tables.Get<int32_t>(num_sparse() *
                                                       params.sparse.num_pages);
  }

  int64_t size() const { return first_[params_.num_seqs]; }
  int64_t max_rows() const { return int64_t{max_tokens_} * group_; }
  int64_t max_splits() const { return max_splits_; }
  // Positions that sequences' tiles read, roughly.
  int64_t sum_context() const { return sum_context_; }

  AttentionTile At(int64_t index) const {
    const int32_t seq = SequenceOf(first_, index);
    const int64_t in_seq = index - first_[seq];
    const int32_t num_dense = DenseTiles(seq);
    const int32_t num_sparse = NewTokens(seq) - DenseTokens(seq);
    const int32_t tiles = num_dense + num_sparse;
    const int32_t tile_idx = in_seq % tiles;
    AttentionTile tile;
    tile.params = &params_;
    tile.kv_head = in_seq / tiles;
    tile.group = group_;
    if (tile_idx < num_dense) {
      const int32_t token = tile_idx * tokens_per_tile_;
      tile.block_table = BlockTable(seq);
      tile.first_token = params_.query_start[seq] + token;
      tile.first_position = FirstPosition(seq) + token;
      tile.num_tokens = std::min(tokens_per_tile_, DenseTokens(seq) - token);
      return tile;
    }
    const int32_t row = tile_idx - num_dense;
    const int32_t token = DenseTokens(seq) + row;
    const int32_t block_size = params_.cache.layout.block_size;
    tile.block_table =
        PageTable(first_sparse_[seq] + tile.kv_head * num_sparse + row);
    tile.first_token = params_.query_start[seq] + token;
    tile.first_position = SparseContext() - block_size +
                          (FirstPosition(seq) + token) % block_size;
    tile.num_tokens = 1;
    return tile;
  }

  // Sparse rows of all KV heads, whose page tables are to be made first.
  int64_t num_sparse() const { return first_sparse_[params_.num_seqs]; }
  int32_t* PageTable(int64_t index) const {
    return page_tables_ + index * params_.sparse.num_pages;
  }
  PageQuery SparseAt(int64_t index) const {
    const int32_t seq = SequenceOf(first_sparse_, index);
    const int64_t in_seq = index - first_sparse_[seq];
    const int32_t num_dense = DenseTokens(seq);
    const int32_t num_rows = NewTokens(seq) - num_dense;
    const int32_t token = num_dense + in_seq % num_rows;
    PageQuery query;
    query.params = &params_;
    query.block_table = BlockTable(seq);
    query.token = params_.query_start[seq] + token;
    query.position = FirstPosition(seq) + token;
    query.kv_head = in_seq / num_rows;
    return query;
  }

 private:
  int32_t NewTokens(int32_t seq) const {
    return params_.query_start[seq + 1] - params_.query_start[seq];
  }
  // Of the first new token.
  int32_t FirstPosition(int32_t seq) const {
    return params_.context_lens[seq] - NewTokens(seq);
  }
  // New tokens that read their whole context.
  int32_t DenseTokens(int32_t seq) const {
    if (params_.sparse.first_positions == nullptr) return NewTokens(seq);
    return std::clamp(params_.sparse.first_positions[seq] - FirstPosition(seq),
                      0, NewTokens(seq));
  }
  int32_t DenseTiles(int32_t seq) const {
    return (DenseTokens(seq) + tokens_per_tile_ - 1) / tokens_per_tile_;
  }
  // Positions of a shortened context whose last page is full.
  int32_t SparseContext() const {
    return params_.sparse.num_pages * params_.cache.layout.block_size;
  }
  const int32_t* BlockTable(int32_t seq) const {
    return params_.block_tables +
           int64_t{params_.seq_slots[seq]} * params_.max_blocks_per_seq;
  }
  int32_t SequenceOf(const int64_t* first, int64_t index) const {
    return std::upper_bound(first, first + params_.num_seqs + 1, index) -
           first - 1;
  }
  void AddContext(int32_t context, int32_t tokens) {
    max_tokens_ = std::max(max_tokens_, tokens);
    max_splits_ = std::max<int64_t>(
        max_splits_, (context + kAttentionSplit - 1) / kAttentionSplit);
    sum_context_ += context;
  }

  const AttentionParams& params_;
  int32_t num_kv_heads_;
  int32_t group_;
  int32_t tokens_per_tile_;
  int64_t* first_;         // [num_seqs + 1] tiles before each sequence's
  int64_t* first_sparse_;  // [num_seqs + 1] sparse ones before them
  int32_t* page_tables_;   // [num_sparse, num_pages]
  int32_t max_tokens_ = 0;
  int64_t max_splits_ = 0;
  int64_t sum_context_ = 0;
};

// Makes the block tables of sparse rows.
void SelectAllPages(const TileList& tiles, const ThreadTeam& team,
                    PageWorkspace* workspace) {
  team.For(tiles.num_sparse(), /*grain=*/1,
           [&](int thread, int64_t begin, int64_t end) {
             for (int64_t i = begin; i < end; ++i) {
               SelectPages(tiles.SparseAt(i), thread, workspace,
                           tiles.PageTable(i));
             }
           });
}

// Few tiles with long contexts: splits run side by side, then are merged.
void AttendBySplits(const TileList& tiles, const AttentionParams& params,
                    const ThreadTeam& team, AttentionWorkspace* workspace) {
  const KvLayout& layout = params.cache.layout;
  const bool f32 = layout.dtype == DType::kF32;
  const auto attend = f32 ? HWY_DYNAMIC_DISPATCH(AttendOneSplitF32)
                          : HWY_DYNAMIC_DISPATCH(AttendOneSplitBf16);
  const auto merge = f32 ? HWY_DYNAMIC_DISPATCH(MergeSplitsF32)
                         : HWY_DYNAMIC_DISPATCH(MergeSplitsBf16);
  const int64_t rows = tiles.max_rows();
  const int64_t padded = PaddedHeadDim(layout.head_dim);
  const int64_t splits = tiles.max_splits();
  const int64_t stride = AttentionState::Size(rows, padded);
  const int64_t scratch = AttentionBuffers::Size(rows, layout.head_dim);
  float* states = workspace->states.Get<float>(tiles.size() * splits * stride);
  const auto buffers = [&](int thread) {
    return AttentionBuffers::At(
        workspace->per_thread.Get<float>(thread, scratch), rows,
        layout.head_dim);
  };
  team.For(tiles.size() * splits, /*grain=*/1,
           [&](int thread, int64_t begin, int64_t end) {
             for (int64_t i = begin; i < end; ++i) {
               const AttentionTile tile = tiles.At(i / splits);
               const int32_t split = tile.first_split() + i % splits;
               if (split >= tile.end_split()) continue;
               attend(tile, split, buffers(thread),
                      AttentionState::At(states + i * stride, rows, padded));
             }
           });
  team.For(tiles.size(), /*grain=*/1,
           [&](int thread, int64_t begin, int64_t end) {
             for (int64_t i = begin; i < end; ++i) {
               merge(tiles.At(i), states + i * splits * stride, rows, stride,
                     buffers(thread));
             }
           });
}

}  // namespace

void AttentionCpu(const AttentionParams& params, const ThreadTeam& team,
                  AttentionWorkspace* workspace) {
  if (params.num_tokens == 0 || params.num_seqs == 0) return;
  const KvLayout& layout = params.cache.layout;
  const TileList tiles(params, workspace);
  if (tiles.size() == 0) return;
  SelectAllPages(tiles, team, &workspace->pages);
  if (team.num_threads() > 1 && tiles.size() < 4 * team.num_threads() &&
      tiles.max_splits() > 1) {
    AttendBySplits(tiles, params, team, workspace);
    return;
  }
  const auto attend = layout.dtype == DType::kF32
                          ? HWY_DYNAMIC_DISPATCH(AttendTileF32)
                          : HWY_DYNAMIC_DISPATCH(AttendTileBf16);
  const int64_t rows = tiles.max_rows();
  const int64_t scratch = AttentionBuffers::Size(rows, layout.head_dim);
  // Some 10 microseconds of work in one piece.
  const int64_t work = tiles.sum_context() * layout.num_kv_heads *
                       layout.head_dim / tiles.size();
  const int64_t grain = std::max<int64_t>(1, (32 << 10) / (work + 1));
  team.For(tiles.size(), grain, [&](int thread, int64_t begin, int64_t end) {
    const AttentionBuffers buffers =
        AttentionBuffers::At(workspace->per_thread.Get<float>(thread, scratch),
                             rows, layout.head_dim);
    for (int64_t i = begin; i < end; ++i) attend(tiles.At(i), buffers);
  });
}

}  // namespace quire
#endif  // HWY_ONCE
