// SPDX-License-Identifier: Apache-2.0
//
// Sequences in a cache with key bounds, for tests of what reads few pages.
#ifndef TESTS_KERNELS_CPU_SPARSE_WORLD_H_
#define TESTS_KERNELS_CPU_SPARSE_WORLD_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/kv_layout.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"
#include "tests/reference/attention.h"
#include "tests/reference/page_select.h"

namespace quire {
inline constexpr int32_t kWorldLayers = 3;
inline constexpr int32_t kWorldLayer = 1;

struct SparseShape {
  int32_t num_q_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t block_size;
};

// One sequence of a step: tokens [first, first + num) of sequence `idx`.
struct SparseSlice {
  int32_t idx;
  int32_t first;
  int32_t num;
};

// Sequences whose keys and values lie in a cache, each in blocks of its own in
// a shuffled order; whatever holds no token is NaN.
class SparseWorld {
 public:
  SparseWorld(DType dtype, const SparseShape& shape,
              const std::vector<int32_t>& contexts)
      : shape_(shape),
        layout_{kWorldLayers, shape.num_kv_heads, shape.head_dim,
                shape.block_size, dtype},
        cache_(dtype, 0) {
    layout_.has_key_bounds = true;
    for (int32_t context : contexts) {
      const uint32_t seed = 10 * q_.size();
      q_.push_back(Tensor::Random(dtype, context * q_size(), seed + 1));
      k_.push_back(Tensor::Random(dtype, context * kv_size(), seed + 2));
      v_.push_back(Tensor::Random(dtype, context * kv_size(), seed + 3));
      contexts_.push_back(context);
      max_blocks_ = std::max(max_blocks_, BlocksFor(context));
    }
    num_blocks_ = max_blocks_ * static_cast<int32_t>(contexts.size());
    std::vector<int32_t> blocks(num_blocks_);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(7));
    tables_ = blocks;
    cache_ = Tensor(dtype, num_blocks_ * layout_.BlockStride());
  }

  // Writes a sequence's tokens [begin, end) and their bounds.
  void Write(Backend* backend, int32_t idx, int32_t begin, int32_t end) {
    std::vector<int32_t> slots = {-1};  // padding
    for (int32_t p = begin; p < end; ++p) {
      const int32_t offset = p % shape_.block_size;
      slots.push_back(BlockOf(idx, p) * shape_.block_size + offset);
      for (int32_t head = 0; head < shape_.num_kv_heads; ++head) {
        const int64_t from = p * kv_size() + head * shape_.head_dim;
        const int64_t to = BlockOf(idx, p) * layout_.BlockStride() +
                           kWorldLayer * layout_.LayerStride() +
                           head * layout_.HeadStride() +
                           offset * layout_.TokenStride();
        for (int32_t i = 0; i < shape_.head_dim; ++i) {
          cache_.Set(to + i, k_[idx][from + i]);
          cache_.Set(to + layout_.HeadsStride() + i, v_[idx][from + i]);
        }
      }
    }
    const absl::Status status = backend->UpdateKeyBounds(
        {slots.data(), view(), static_cast<int32_t>(slots.size())});
    EXPECT_TRUE(status.ok()) << status;
  }

  // Everything there is.
  void WriteAll(Backend* backend) {
    for (size_t idx = 0; idx < contexts_.size(); ++idx) {
      Write(backend, idx, 0, contexts_[idx]);
    }
  }

  // One call; sequence i of it is sparse from first_sparse[i] on, or nowhere.
  Tensor Attend(Backend* backend, const std::vector<SparseSlice>& slices,
                const std::vector<int32_t>& first_sparse = {},
                int32_t num_pages = 0) {
    std::vector<int32_t> seq_slots, contexts, query_start = {0};
    for (const SparseSlice& slice : slices) {
      seq_slots.push_back(slice.idx);
      contexts.push_back(slice.first + slice.num);
      query_start.push_back(query_start.back() + slice.num);
    }
    const int32_t num_tokens = query_start.back();
    const int64_t q_stride = q_size() + 8;
    Tensor q(layout_.dtype, num_tokens * q_stride);
    for (size_t i = 0; i < slices.size(); ++i) {
      for (int32_t t = 0; t < slices[i].num; ++t) {
        for (int64_t e = 0; e < q_size(); ++e) {
          q.Set((query_start[i] + t) * q_stride + e,
                q_[slices[i].idx][(slices[i].first + t) * q_size() + e]);
        }
      }
    }
    Tensor out(layout_.dtype, num_tokens * q_size());
    AttentionParams params = {};
    params.q = q.data();
    params.q_stride = q_stride;
    params.out = out.data();
    params.cache = view();
    params.block_tables = tables_.data();
    params.seq_slots = seq_slots.data();
    params.query_start = query_start.data();
    params.context_lens = contexts.data();
    params.max_blocks_per_seq = max_blocks_;
    params.num_seqs = static_cast<int32_t>(slices.size());
    params.num_tokens = num_tokens;
    params.num_q_heads = shape_.num_q_heads;
    params.scale = scale();
    if (!first_sparse.empty()) {
      params.sparse = {first_sparse.data(), num_pages};
    }
    const absl::Status status = backend->Attention(params);
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  // One token's output by the reference, over the pages that it chooses. Adds
  // how narrow a choice was.
  std::vector<double> Reference(int32_t idx, int32_t position,
                                int32_t num_pages, double* margin) const {
    const int32_t group = shape_.num_q_heads / shape_.num_kv_heads;
    std::vector<double> out;
    for (int32_t head = 0; head < shape_.num_kv_heads; ++head) {
      std::vector<std::vector<double>> queries, keys, values;
      for (int32_t i = 0; i < group; ++i) {
        queries.push_back(q_[idx].Doubles(
            position * q_size() + (head * group + i) * shape_.head_dim,
            shape_.head_dim));
      }
      for (int32_t p = 0; p <= position; ++p) {
        const int64_t at = p * kv_size() + head * shape_.head_dim;
        keys.push_back(k_[idx].Doubles(at, shape_.head_dim));
        values.push_back(v_[idx].Doubles(at, shape_.head_dim));
      }
      const reference::PageSelection selection =
          reference::SelectPages(queries, keys, shape_.block_size, num_pages);
      *margin = std::min(*margin, selection.margin);
      std::vector<std::vector<double>> read_keys, read_values;
      for (int32_t page : selection.pages) {
        const int32_t begin = page * shape_.block_size;
        const int32_t end = std::min(begin + shape_.block_size, position + 1);
        read_keys.insert(read_keys.end(), keys.begin() + begin,
                         keys.begin() + end);
        read_values.insert(read_values.end(), values.begin() + begin,
                           values.begin() + end);
      }
      for (const std::vector<double>& q : queries) {
        const std::vector<double> one =
            reference::Attention(q, read_keys, read_values, scale());
        out.insert(out.end(), one.begin(), one.end());
      }
    }
    return out;
  }

  int32_t BlockOf(int32_t idx, int32_t position) const {
    return tables_[idx * max_blocks_ + position / shape_.block_size];
  }
  int32_t BlocksFor(int32_t num_tokens) const {
    return (num_tokens + shape_.block_size - 1) / shape_.block_size;
  }
  KvCacheView view() {
    return {cache_.data(), layout_, kWorldLayer, num_blocks_};
  }
  const KvLayout& layout() const { return layout_; }
  Tensor& cache() { return cache_; }
  Tensor& keys(int32_t idx) { return k_[idx]; }
  Tensor& values(int32_t idx) { return v_[idx]; }
  int64_t q_size() const {
    return int64_t{shape_.num_q_heads} * shape_.head_dim;
  }
  int64_t kv_size() const {
    return int64_t{shape_.num_kv_heads} * shape_.head_dim;
  }
  double scale() const { return 1 / std::sqrt(shape_.head_dim); }

 private:
  const SparseShape shape_;
  KvLayout layout_;
  Tensor cache_;
  std::vector<Tensor> q_, k_, v_;  // by position
  std::vector<int32_t> contexts_;
  std::vector<int32_t> tables_;
  int32_t max_blocks_ = 0;
  int32_t num_blocks_ = 0;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CPU_SPARSE_WORLD_H_
