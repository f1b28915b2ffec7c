// SPDX-License-Identifier: Apache-2.0
#include "tests/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

// One sequence of a step: its context, and how many of its last tokens are new.
struct Sequence {
  int32_t context;
  int32_t new_tokens;
};

struct Shape {
  int32_t num_q_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t block_size = 16;
  int32_t sliding_window = 0;
};

// Queries, keys and values by (sequence, position), the same whatever the block
// size or the chunk that they are computed in.
class World {
 public:
  World(DType dtype, const Shape& shape, std::vector<int32_t> contexts)
      : dtype_(dtype), shape_(shape), contexts_(std::move(contexts)) {
    for (size_t seq = 0; seq < contexts_.size(); ++seq) {
      const int64_t positions = contexts_[seq];
      const uint32_t seed = 100 * seq;
      q_.push_back(Tensor::Random(
          dtype, positions * shape.num_q_heads * shape.head_dim, seed + 1));
      k_.push_back(Tensor::Random(
          dtype, positions * shape.num_kv_heads * shape.head_dim, seed + 2));
      v_.push_back(Tensor::Random(
          dtype, positions * shape.num_kv_heads * shape.head_dim, seed + 3));
    }
  }

  // Attention of the given sequences' last new tokens, in one call. Blocks are
  // given out in a shuffled order; whatever holds no token is NaN.
  Tensor Attend(Backend* backend, const std::vector<Sequence>& sequences,
                int32_t block_size, KvOrder order = KvOrder::kHeads) const;

  // The same by the reference.
  std::vector<double> Reference(const std::vector<Sequence>& sequences) const;

  float scale() const { return 1.0f / std::sqrt(shape_.head_dim); }
  int64_t row_size() const {
    return int64_t{shape_.num_q_heads} * shape_.head_dim;
  }

 private:
  std::vector<std::vector<double>> Rows(const Tensor& from, int32_t head,
                                        int32_t begin, int32_t end) const {
    std::vector<std::vector<double>> rows;
    for (int32_t p = begin; p < end; ++p) {
      rows.push_back(from.Doubles(
          (int64_t{p} * shape_.num_kv_heads + head) * shape_.head_dim,
          shape_.head_dim));
    }
    return rows;
  }

  DType dtype_;
  Shape shape_;
  std::vector<int32_t> contexts_;
  std::vector<Tensor> q_, k_, v_;
};

Tensor World::Attend(Backend* backend, const std::vector<Sequence>& sequences,
                     int32_t block_size, KvOrder order) const {
  constexpr int32_t kLayers = 2;
  constexpr int32_t kLayer = 1;
  const int32_t head_dim = shape_.head_dim;
  const KvLayout layout = {kLayers,
                           shape_.num_kv_heads,
                           head_dim,
                           block_size,
                           dtype_,
                           order,
                           order == KvOrder::kTokens ? 40 : 0};
  int32_t max_blocks = 1, num_blocks = 0;
  for (const Sequence& sequence : sequences) {
    const int32_t blocks = (sequence.context + block_size - 1) / block_size;
    max_blocks = std::max(max_blocks, blocks);
    num_blocks += blocks;
  }
  std::vector<int32_t> free(num_blocks);
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), std::mt19937(block_size));
  Tensor cache(dtype_, num_blocks * layout.BlockStride());
  // Sequences sit in table rows in reverse order; unused entries are -1.
  const int32_t num_seqs = sequences.size();
  std::vector<int32_t> tables(num_seqs * max_blocks, -1), slots, contexts;
  std::vector<int32_t> query_start = {0};
  int64_t num_tokens = 0;
  for (const Sequence& sequence : sequences) num_tokens += sequence.new_tokens;
  // Queries lie in rows wider than they are, as in a fused q, k, v.
  const int64_t q_stride = row_size() + 24;
  Tensor q(dtype_, num_tokens * q_stride);
  for (int32_t seq = 0; seq < num_seqs; ++seq) {
    const int32_t slot = num_seqs - 1 - seq;
    slots.push_back(slot);
    contexts.push_back(sequences[seq].context);
    for (int32_t p = 0; p < sequences[seq].context; ++p) {
      int32_t& block = tables[slot * max_blocks + p / block_size];
      if (block < 0) {
        block = free.back();
        free.pop_back();
      }
      for (int32_t head = 0; head < shape_.num_kv_heads; ++head) {
        const int64_t from =
            (int64_t{p} * shape_.num_kv_heads + head) * head_dim;
        const int64_t to =
            block * layout.BlockStride() + kLayer * layout.LayerStride() +
            head * layout.HeadStride() + p % block_size * layout.TokenStride();
        for (int32_t i = 0; i < head_dim; ++i) {
          cache.Set(to + i, k_[seq][from + i]);
          cache.Set(to + layout.HeadsStride() + i, v_[seq][from + i]);
        }
      }
    }
    for (int32_t t = 0; t < sequences[seq].new_tokens; ++t) {
      const int64_t p = sequences[seq].context - sequences[seq].new_tokens + t;
      for (int64_t i = 0; i < row_size(); ++i) {
        q.Set((query_start.back() + t) * q_stride + i,
              q_[seq][p * row_size() + i]);
      }
    }
    query_start.push_back(query_start.back() + sequences[seq].new_tokens);
  }
  Tensor out(dtype_, num_tokens * row_size());
  AttentionParams params = {};
  params.q = q.data();
  params.q_stride = q_stride;
  params.out = out.data();
  params.cache = {cache.data(), layout, kLayer, num_blocks};
  params.block_tables = tables.data();
  params.seq_slots = slots.data();
  params.query_start = query_start.data();
  params.context_lens = contexts.data();
  params.max_blocks_per_seq = max_blocks;
  params.num_seqs = num_seqs;
  params.num_tokens = num_tokens;
  params.num_q_heads = shape_.num_q_heads;
  params.sliding_window = shape_.sliding_window;
  params.scale = scale();
  const absl::Status status = backend->Attention(params);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

std::vector<double> World::Reference(
    const std::vector<Sequence>& sequences) const {
  std::vector<double> result;
  const int32_t group = shape_.num_q_heads / shape_.num_kv_heads;
  for (size_t seq = 0; seq < sequences.size(); ++seq) {
    const int32_t context = sequences[seq].context;
    for (int32_t p = context - sequences[seq].new_tokens; p < context; ++p) {
      const int32_t window = shape_.sliding_window;
      const int32_t begin = window > 0 ? std::max(0, p + 1 - window) : 0;
      for (int32_t head = 0; head < shape_.num_q_heads; ++head) {
        const std::vector<double> out = reference::Attention(
            q_[seq].Doubles(p * row_size() + head * shape_.head_dim,
                            shape_.head_dim),
            Rows(k_[seq], head / group, begin, p + 1),
            Rows(v_[seq], head / group, begin, p + 1), scale());
        result.insert(result.end(), out.begin(), out.end());
      }
    }
  }
  return result;
}

using AttentionTest = PerDtypeTest;

// Inputs are standard normal, so |scale q . k| stays below 8 and values below
// 5. A score errs by at most (head_dim + 2) u times its sum of magnitudes,
// about 256 * 2^-24 * 8 = 1e-4 in the worst case and 1e-6 typically; weights
// err relatively as much, and so do sums of weighted values: 5 * 2e-6 = 1e-5,
// and one rounding to T of a result below 5.
void ExpectNear(const Tensor& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), static_cast<int64_t>(want.size()));
  for (int64_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i],
                1e-5 + UnitRoundoff(got.dtype()) * std::abs(want[i]))
        << "element " << i;
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceForManyHeadShapes) {
  const Shape kShapes[] = {{4, 4, 32},  {8, 2, 64},  {7, 1, 80}, {6, 2, 96},
                           {4, 1, 128}, {2, 2, 256}, {3, 1, 20}, {2, 1, 72}};
  const std::vector<Sequence> sequences = {{1, 1}, {17, 1}, {16, 16}, {33, 9}};
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << "head_dim " << shape.head_dim);
    const World world(GetParam(), shape, {1, 17, 16, 33});
    ExpectNear(world.Attend(backend_.get(), sequences, 16),
               world.Reference(sequences));
  }
}

TEST_P(AttentionTest, AgreesWithTheReferenceAroundSplitsAndWindows) {
  const std::vector<Sequence> sequences = {
      {255, 1}, {256, 2}, {257, 1}, {600, 5}, {513, 40}};
  for (int32_t window : {0, 1, 2, 100, 256, 300, 599}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    const Shape shape = {4, 2, 40, 16, window};
    const World world(GetParam(), shape, {255, 256, 257, 600, 513});
    ExpectNear(world.Attend(backend_.get(), sequences, 16),
               world.Reference(sequences));
  }
}

TEST_P(AttentionTest, NothingToDoTouchesNothing) {
  AttentionParams params = {};
  params.cache.layout = {1, 1, 8, 16, GetParam()};
  params.num_q_heads = 1;
  EXPECT_TRUE(backend_->Attention(params).ok());
}

TEST_P(AttentionTest, BlockSizeBatchChunksAndThreadsDoNotShow) {
  for (const auto& [q_heads, window] :
       {std::pair<int, int>{8, 0}, {2, 0}, {6, 70}}) {
    const Shape shape = {q_heads, 2, 64, 16, window};
    const World world(GetParam(), shape, {700, 90});
    const Tensor whole = world.Attend(backend_.get(), {{700, 700}}, 16);
    const auto one_thread = MakeTestBackend(GetParam(), /*num_threads=*/1);
    const int64_t row = world.row_size();
    for (int32_t block_size : {1, 4, 16, 32, 256}) {
      SCOPED_TRACE(testing::Message() << "block size " << block_size);
      for (Backend* backend : {backend_.get(), one_thread.get()}) {
        EXPECT_TRUE(
            whole.SameBits(world.Attend(backend, {{700, 700}}, block_size)));
        // The last token alone, as a decode does, and with company.
        EXPECT_TRUE(world.Attend(backend, {{700, 1}}, block_size)
                        .SameBits(0, whole, 699 * row, row));
        EXPECT_TRUE(world.Attend(backend, {{700, 1}, {90, 31}}, block_size)
                        .SameBits(0, whole, 699 * row, row));
        // Chunks that end anywhere.
        for (const Sequence& chunk :
             {Sequence{5, 5}, {257, 30}, {300, 17}, {512, 256}, {513, 2}}) {
          EXPECT_TRUE(world.Attend(backend, {chunk}, block_size)
                          .SameBits(0, whole,
                                    (chunk.context - chunk.new_tokens) * row,
                                    chunk.new_tokens * row))
              << chunk.new_tokens << " up to " << chunk.context;
        }
      }
    }
  }
}

TEST_P(AttentionTest, ARowOfWholeTokensGivesTheBitsOfBlocks) {
  for (const auto& [head_dim, window] :
       {std::pair<int, int>{64, 0}, {64, 70}, {20, 0}}) {
    const Shape shape = {4, 2, head_dim, 16, window};
    const World world(GetParam(), shape, {700, 90});
    const Tensor whole = world.Attend(backend_.get(), {{700, 700}}, 16);
    const int64_t row = world.row_size();
    // Capacities that are no power of two, nor a multiple of four.
    for (int32_t capacity : {703, 704, 1000}) {
      SCOPED_TRACE(testing::Message() << "capacity " << capacity);
      const auto attend = [&](const std::vector<Sequence>& sequences) {
        return world.Attend(backend_.get(), sequences, capacity,
                            KvOrder::kTokens);
      };
      EXPECT_TRUE(whole.SameBits(attend({{700, 700}})));
      EXPECT_TRUE(
          attend({{700, 1}, {90, 31}}).SameBits(0, whole, 699 * row, row));
      EXPECT_TRUE(attend({{513, 2}}).SameBits(0, whole, 511 * row, 2 * row));
    }
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  // One key dwarfs the others: its value is the answer.
  const Shape shape = {1, 1, 16};
  Tensor q(GetParam(), 16), cache(GetParam(), 2 * 4 * 16), out(GetParam(), 16);
  for (int i = 0; i < 16; ++i) q.Set(i, 100.0f);
  for (int p = 0; p < 4; ++p) {
    for (int i = 0; i < 16; ++i) {
      cache.Set(p * 16 + i, p == 2 ? 100.0f : -100.0f);
      cache.Set(64 + p * 16 + i, p);
    }
  }
  const int32_t table = 0, slot = 0, starts[2] = {0, 1}, context = 4;
  AttentionParams params = {};
  params.q = q.data();
  params.q_stride = 16;
  params.out = out.data();
  params.cache = {cache.data(), {1, 1, 16, 4, GetParam()}, 0, 1};
  params.block_tables = &table;
  params.seq_slots = &slot;
  params.query_start = starts;
  params.context_lens = &context;
  params.max_blocks_per_seq = 1;
  params.num_seqs = 1;
  params.num_tokens = 1;
  params.num_q_heads = shape.num_q_heads;
  params.scale = 1.0f;
  ASSERT_TRUE(backend_->Attention(params).ok());
  for (int i = 0; i < 16; ++i) EXPECT_EQ(out[i], 2.0);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AttentionTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
