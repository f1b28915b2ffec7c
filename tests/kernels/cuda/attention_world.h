// SPDX-License-Identifier: Apache-2.0
//
// Sequences whose queries, keys and values are known by position, for tests of
// attention on a CUDA device: the same whatever the block size, the chunk or
// the company that a row is computed in.
#ifndef TESTS_KERNELS_CUDA_ATTENTION_WORLD_H_
#define TESTS_KERNELS_CUDA_ATTENTION_WORLD_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "gtest/gtest.h"
#include "kernels/cuda/attention.h"
#include "tests/kernels/tensor.h"

namespace quire {

// Device memory with a copy of `host`, freed at the end.
class DeviceCopy {
 public:
  DeviceCopy(const void* host, int64_t bytes) {
    EXPECT_EQ(cudaMalloc(&data_, std::max<int64_t>(bytes, 16)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host, bytes, cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  // Every byte is kAttentionEmptyByte.
  explicit DeviceCopy(int64_t bytes) {
    EXPECT_EQ(cudaMalloc(&data_, bytes), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, kAttentionEmptyByte, bytes), cudaSuccess);
  }
  explicit DeviceCopy(const Tensor& tensor)
      : DeviceCopy(tensor.data(), tensor.size() * SizeOf(tensor.dtype())) {}
  explicit DeviceCopy(const std::vector<int32_t>& numbers)
      : DeviceCopy(numbers.data(), numbers.size() * sizeof(int32_t)) {}
  ~DeviceCopy() { cudaFree(data_); }
  DeviceCopy(const DeviceCopy&) = delete;
  DeviceCopy& operator=(const DeviceCopy&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// Whether device memory is as it was before its first use.
inline bool IsEmpty(const char* memory, int64_t bytes) {
  std::string copy(bytes, '\0');
  EXPECT_EQ(cudaMemcpy(copy.data(), memory, bytes, cudaMemcpyDeviceToHost),
            cudaSuccess);
  return copy.find_first_not_of(static_cast<char>(kAttentionEmptyByte)) ==
         std::string::npos;
}

struct AttentionShape {
  int32_t num_q_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t sliding_window = 0;
};

// One sequence of a step: its context, and how many of its last tokens are new.
struct StepSequence {
  int32_t context;
  int32_t new_tokens;
  int32_t world_idx = 0;  // which of the world's sequences
};

struct LaunchChoices {
  int32_t block_size = 16;
  int32_t num_sms = 132;
  bool least_workspace = false;  // no more than the launch accepts...
  int64_t more_workspace = 0;    // ...and these bytes
  int32_t repeats = 1;  // beyond one: with the plan of the first
  bool say_decode = false;  // promise that every sequence has one new token
  bool is_deterministic = false;
  int32_t padding = 0;  // tokens behind those of the sequences
  // kTiles: AttentionCudaOrder(), whatever that is. kTokens: each block is
  // followed by a row of NaN.
  KvOrder order = KvOrder::kTiles;
};

class AttentionWorld {
 public:
  AttentionWorld(DType dtype, const AttentionShape& shape,
                 const std::vector<int32_t>& contexts)
      : dtype_(dtype), shape_(shape) {
    uint32_t seed = 0;
    for (int64_t positions : contexts) {
      const int64_t kv = positions * shape.num_kv_heads * shape.head_dim;
      q_.push_back(Tensor::Random(dtype, positions * row_size(), ++seed));
      k_.push_back(Tensor::Random(dtype, kv, ++seed));
      v_.push_back(Tensor::Random(dtype, kv, ++seed));
    }
  }

  // Attention of the given sequences' last new tokens in one call, from a cache
  // whose blocks are given out in a shuffled order and hold NaN where they hold
  // no token. Results not written are NaN.
  Tensor Attend(const std::vector<StepSequence>& sequences,
                const LaunchChoices& choices = {}) const;

  // A result element, and the sum of the weighted values' magnitudes.
  struct Expected {
    double value;
    double magnitude;
  };
  std::vector<Expected> Reference(const StepSequence& sequence) const;

  int64_t row_size() const {
    return int64_t{shape_.num_q_heads} * shape_.head_dim;
  }

 private:
  struct Step {
    Tensor cache, q;
    std::vector<int32_t> tables, slots, contexts, query_start;
    int32_t max_blocks, num_blocks;
  };
  Step Lay(const std::vector<StepSequence>& sequences,
           const KvLayout& layout) const;
  // `to`: the keys, or the values, of the position's block.
  void LayTokens(const Tensor& from, int32_t position, int64_t to,
                 const KvLayout& layout, Tensor* cache) const {
    const int32_t token = position % layout.block_size;
    const int32_t run =
        layout.order == KvOrder::kTiles ? kTileUnit : layout.head_dim;
    for (int64_t head = 0; head < shape_.num_kv_heads; ++head) {
      const int64_t source =
          (int64_t{position} * shape_.num_kv_heads + head) * shape_.head_dim;
      for (int32_t at = 0; at < layout.head_dim; at += run) {
        std::memcpy(cache->At(to + head * layout.HeadStride() +
                              layout.ElementOffset(token, at)),
                    from.At(source + at), run * SizeOf(dtype_));
      }
    }
  }

  DType dtype_;
  AttentionShape shape_;
  std::vector<Tensor> q_, k_, v_;
};

inline constexpr int32_t kWorldLayers = 2;
inline constexpr int32_t kWorldLayer = 1;

inline AttentionWorld::Step AttentionWorld::Lay(
    const std::vector<StepSequence>& sequences, const KvLayout& layout) const {
  const int32_t block_size = layout.block_size;
  int32_t max_blocks = 1, num_blocks = 0, num_tokens = 0;
  for (const StepSequence& sequence : sequences) {
    const int32_t blocks = (sequence.context + block_size - 1) / block_size;
    max_blocks = std::max(max_blocks, blocks);
    num_blocks += blocks;
    num_tokens += sequence.new_tokens;
  }
  std::vector<int32_t> free(num_blocks);
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), std::mt19937(block_size));
  // Queries lie in rows wider than they are, as in a fused q, k, v.
  const int64_t q_stride = row_size() + 24;
  const int32_t num_seqs = sequences.size();
  Step step = {Tensor(dtype_, num_blocks * layout.BlockStride()),
               Tensor(dtype_, num_tokens * q_stride),
               std::vector<int32_t>(num_seqs * max_blocks, -1),
               {},
               {},
               {0},
               max_blocks,
               num_blocks};
  for (int32_t seq = 0; seq < num_seqs; ++seq) {
    const StepSequence& sequence = sequences[seq];
    // Sequences sit in table rows in reverse order.
    const int32_t slot = num_seqs - 1 - seq;
    step.slots.push_back(slot);
    step.contexts.push_back(sequence.context);
    for (int32_t p = 0; p < sequence.context; ++p) {
      int32_t& block = step.tables[slot * max_blocks + p / block_size];
      if (block < 0) {
        block = free.back();
        free.pop_back();
      }
      const int64_t to =
          block * layout.BlockStride() + kWorldLayer * layout.LayerStride();
      LayTokens(k_[sequence.world_idx], p, to, layout, &step.cache);
      LayTokens(v_[sequence.world_idx], p, to + layout.HeadsStride(), layout,
                &step.cache);
    }
    for (int32_t t = 0; t < sequence.new_tokens; ++t) {
      const int64_t p = sequence.context - sequence.new_tokens + t;
      if (p < 0) continue;  // padding: a query without a token
      std::memcpy(step.q.At((step.query_start.back() + t) * q_stride),
                  q_[sequence.world_idx].At(p * row_size()),
                  row_size() * SizeOf(dtype_));
    }
    step.query_start.push_back(step.query_start.back() + sequence.new_tokens);
  }
  return step;
}

inline Tensor AttentionWorld::Attend(const std::vector<StepSequence>& sequences,
                                     const LaunchChoices& choices) const {
  KvLayout layout = {kWorldLayers, shape_.num_kv_heads, shape_.head_dim,
                     choices.block_size, dtype_};
  layout.order = choices.order == KvOrder::kTiles ? AttentionCudaOrder(layout)
                                                  : choices.order;
  if (layout.order == KvOrder::kTokens) layout.block_padding = shape_.head_dim;
  const Step step = Lay(sequences, layout);
  const int32_t num_tokens = step.query_start.back() + choices.padding;
  Tensor out(dtype_, num_tokens * row_size());
  Tensor queries(dtype_, num_tokens * (row_size() + 24));
  std::memcpy(queries.At(0), step.q.data(),
              step.q.size() * SizeOf(step.q.dtype()));
  const DeviceCopy cache(step.cache), q(queries), out_on_device(out),
      tables(step.tables), slots(step.slots), contexts(step.contexts),
      query_start(step.query_start);
  AttentionParams params = {};
  params.q = q.as<void>();
  params.q_stride = row_size() + 24;
  params.out = out_on_device.as<void>();
  params.cache = {cache.as<void>(), layout, kWorldLayer, step.num_blocks};
  params.block_tables = tables.as<int32_t>();
  params.seq_slots = slots.as<int32_t>();
  params.query_start = query_start.as<int32_t>();
  params.context_lens = contexts.as<int32_t>();
  params.max_blocks_per_seq = step.max_blocks;
  params.num_seqs = sequences.size();
  params.num_tokens = num_tokens;
  params.num_q_heads = shape_.num_q_heads;
  params.sliding_window = shape_.sliding_window;
  params.scale = 1.0f / std::sqrt(shape_.head_dim);
  params.are_contexts_apart = true;
  for (const StepSequence& sequence : sequences) {
    const int32_t fewest = params.min_new_tokens;
    if (sequence.new_tokens > 0 &&
        (fewest == 0 || sequence.new_tokens < fewest)) {
      params.min_new_tokens = sequence.new_tokens;
    }
  }
  AttentionCudaOptions options = {};
  options.num_sms = choices.num_sms;
  options.max_query = choices.say_decode ? 1 : 0;
  options.is_deterministic = choices.is_deterministic;
  const int64_t bytes = AttentionCudaWorkspaceBytes(
      num_tokens, shape_.num_q_heads, shape_.head_dim, options.num_sms);
  const DeviceCopy workspace(bytes);
  options.workspace = workspace.as<void>();
  options.workspace_bytes = choices.least_workspace ? 4096 : bytes;
  cudaError_t error = LaunchAttentionCuda(params, options, nullptr);
  while (error == cudaErrorInvalidValue && options.workspace_bytes < bytes) {
    options.workspace_bytes += 4096;
    error = LaunchAttentionCuda(params, options, nullptr);
  }
  EXPECT_EQ(error, cudaSuccess);
  if (choices.more_workspace > 0) {
    EXPECT_EQ(cudaMemset(options.workspace, kAttentionEmptyByte, bytes),
              cudaSuccess);
    options.workspace_bytes =
        std::min(bytes, options.workspace_bytes + choices.more_workspace);
    EXPECT_EQ(LaunchAttentionCuda(params, options, nullptr), cudaSuccess);
  }
  options.reuse_plan = true;
  for (int32_t i = 1; i < choices.repeats; ++i) {
    EXPECT_EQ(LaunchAttentionCuda(params, options, nullptr), cudaSuccess);
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  if (choices.repeats > 1) {
    EXPECT_TRUE(IsEmpty(workspace.as<char>(), kAttentionStateBytes));
  }
  EXPECT_EQ(cudaMemcpy(out.data(), params.out, out.size() * SizeOf(dtype_),
                       cudaMemcpyDeviceToHost),
            cudaSuccess);
  return out;
}

inline std::vector<AttentionWorld::Expected> AttentionWorld::Reference(
    const StepSequence& sequence) const {
  const Tensor& q = q_[sequence.world_idx];
  const Tensor& k = k_[sequence.world_idx];
  const Tensor& v = v_[sequence.world_idx];
  const int32_t head_dim = shape_.head_dim;
  const int32_t group = shape_.num_q_heads / shape_.num_kv_heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  std::vector<Expected> result;
  for (int32_t p = sequence.context - sequence.new_tokens; p < sequence.context;
       ++p) {
    const int32_t window = shape_.sliding_window;
    const int32_t begin = window > 0 ? std::max(0, p + 1 - window) : 0;
    for (int32_t head = 0; head < shape_.num_q_heads; ++head) {
      const int64_t query = p * row_size() + int64_t{head} * head_dim;
      const auto key = [&](int64_t at) {
        return (at * shape_.num_kv_heads + head / group) * head_dim;
      };
      std::vector<double> weights;
      for (int32_t at = begin; at <= p; ++at) {
        double score = 0.0;
        for (int32_t i = 0; i < head_dim; ++i) {
          score += q[query + i] * k[key(at) + i];
        }
        weights.push_back(score * scale);
      }
      const double max = *std::max_element(weights.begin(), weights.end());
      double sum = 0.0;
      for (double& weight : weights) sum += weight = std::exp(weight - max);
      std::vector<Expected> row(head_dim, {0.0, 0.0});
      for (int32_t at = begin; at <= p; ++at) {
        const double weight = weights[at - begin] / sum;
        for (int32_t i = 0; i < head_dim; ++i) {
          const double value = weight * v[key(at) + i];
          row[i].value += value;
          row[i].magnitude += std::abs(value);
        }
      }
      result.insert(result.end(), row.begin(), row.end());
    }
  }
  return result;
}

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_ATTENTION_WORLD_H_
