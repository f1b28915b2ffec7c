// SPDX-License-Identifier: Apache-2.0
//
// Attention that begins while the kernel before it has yet to write the step's
// keys and values.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda_runtime.h"
#include "gtest/gtest.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/rope_kv.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/slow_start.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

constexpr int32_t kHeads = 8;  // of queries and of keys
constexpr int32_t kHeadDim = 128;
constexpr int32_t kLayers = 2;
constexpr int32_t kBlockSize = 16;
constexpr int64_t kSlowNs = 200'000;

// New tokens of a sequence, whose blocks are [first_block, ...).
struct NewTokens {
  int32_t first_block;
  int32_t context;  // tokens, new ones included
  int32_t count;
  // The new token of the step whose value the last one's output is to be.
  int32_t answer;
};

// Runs a first layer, then a second one right behind the kernel that writes its
// keys and values, which waits for a slow one; and checks that the last token
// of each sequence has found its answer. Keys of the step are four times their
// token's query, so a query that is the answer's finds it and nothing else.
// What is not written yet is NaN, and old tokens' keys are small.
void CheckStep(const std::vector<NewTokens>& sequences, int32_t num_blocks,
               bool are_contexts_apart) {
  KvLayout layout = {kLayers, kHeads, kHeadDim, kBlockSize, DType::kBf16};
  layout.order = AttentionCudaOrder(layout);
  std::vector<int32_t> starts = {0}, contexts, seq_slots, slots, tables;
  const int32_t max_blocks = 64;
  Tensor cache = Tensor::Random(DType::kBf16, num_blocks * layout.BlockStride(),
                                1, /*deviation=*/0.1f);
  for (const NewTokens& seq : sequences) {
    for (int32_t i = 0; i < max_blocks; ++i) {
      tables.push_back((seq.first_block + i) % num_blocks);
    }
    for (int32_t at = seq.context - seq.count; at < seq.context; ++at) {
      const int32_t block = seq.first_block + at / kBlockSize;
      slots.push_back(block * kBlockSize + at % kBlockSize);
      for (int32_t head = 0; head < 2 * kHeads; ++head) {
        for (int32_t i = 0; i < kHeadDim; ++i) {
          cache.Set(block * layout.BlockStride() + layout.LayerStride() +
                        head * layout.HeadStride() +
                        layout.ElementOffset(at % kBlockSize, i),
                    std::nanf(""));
        }
      }
    }
    seq_slots.push_back(static_cast<int32_t>(contexts.size()));
    contexts.push_back(seq.context);
    starts.push_back(starts.back() + seq.count);
  }
  const int32_t num_tokens = starts.back();
  constexpr int64_t kRow = 3 * kHeads * kHeadDim;
  Tensor qkv = Tensor::Random(DType::kBf16, num_tokens * kRow, 2);
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t last = starts[s + 1] - 1;
    for (int64_t i = 0; i < kHeads * kHeadDim; ++i) {
      qkv.Set(last * kRow + i, qkv[sequences[s].answer * kRow + i]);
    }
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t i = 0; i < kHeads * kHeadDim; ++i) {
      qkv.Set(t * kRow + kHeads * kHeadDim + i, 4 * qkv[t * kRow + i]);
    }
  }
  // One that looks for another does not find itself.
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t last = starts[s + 1] - 1;
    if (sequences[s].answer == last) continue;
    for (int64_t i = 0; i < kHeads * kHeadDim; ++i) {
      qkv.Set(last * kRow + kHeads * kHeadDim + i, 0);
    }
  }
  const DeviceArray device_cache(cache), device_qkv(qkv), device_slots(slots),
      device_starts(starts), device_contexts(contexts), device_rows(seq_slots),
      device_tables(tables),
      out(Tensor(DType::kBf16, num_tokens * int64_t{kHeads} * kHeadDim));
  AttentionParams params = {};
  params.q = device_qkv.as<void>();
  params.q_stride = kRow;
  params.out = out.as<void>();
  params.cache = {device_cache.as<void>(), layout, 0, num_blocks};
  params.block_tables = device_tables.as<int32_t>();
  params.seq_slots = device_rows.as<int32_t>();
  params.query_start = device_starts.as<int32_t>();
  params.context_lens = device_contexts.as<int32_t>();
  params.max_blocks_per_seq = max_blocks;
  params.num_seqs = static_cast<int32_t>(sequences.size());
  params.num_tokens = num_tokens;
  params.num_q_heads = kHeads;
  params.scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
  params.are_contexts_apart = are_contexts_apart;
  params.min_new_tokens = sequences[0].count;
  for (const NewTokens& seq : sequences) {
    params.min_new_tokens = std::min(params.min_new_tokens, seq.count);
  }
  int num_sms = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, 0),
            cudaSuccess);
  AttentionCudaOptions options = {};
  options.num_sms = num_sms;
  options.workspace_bytes =
      AttentionCudaWorkspaceBytes(num_tokens, kHeads, kHeadDim, num_sms);
  void* workspace = nullptr;
  ASSERT_EQ(cudaMalloc(&workspace, options.workspace_bytes), cudaSuccess);
  ASSERT_EQ(cudaMemset(workspace, kAttentionEmptyByte, options.workspace_bytes),
            cudaSuccess);
  options.workspace = workspace;
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(LaunchAttentionCuda(params, options, stream), cudaSuccess);
  ASSERT_EQ(LaunchSlowStart(kSlowNs, stream), cudaSuccess);
  RopeWriteKvParams write = {};
  write.qkv = device_qkv.as<void>();
  write.qkv_stride = kRow;
  write.positions = device_slots.as<int32_t>();  // read by nobody
  write.slot_mapping = device_slots.as<int32_t>();
  params.cache.layer_idx = 1;
  write.cache = params.cache;
  write.num_q_heads = kHeads;
  write.num_tokens = num_tokens;
  ASSERT_EQ(LaunchRopeWriteKvCuda(write, /*is_known=*/true, stream),
            cudaSuccess);
  options.reuse_plan = true;
  ASSERT_EQ(LaunchAttentionCuda(params, options, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  Tensor result(DType::kBf16, num_tokens * int64_t{kHeads} * kHeadDim);
  ASSERT_EQ(cudaMemcpy(result.data(), out.as<void>(), out.bytes(),
                       cudaMemcpyDeviceToHost),
            cudaSuccess);
  // Scores of others are smaller by 20 at least, most by far more.
  const double tolerance = 4 * UnitRoundoff(DType::kBf16) + std::exp(-14.0);
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t last = starts[s + 1] - 1;
    for (int64_t i = 0; i < kHeads * kHeadDim; ++i) {
      const double expected =
          qkv[sequences[s].answer * kRow + 2 * kHeads * kHeadDim + i];
      ASSERT_NEAR(result[last * kHeads * kHeadDim + i], expected,
                  tolerance * std::max(1.0, std::abs(expected)))
          << "sequence " << s << ", element " << i;
    }
  }
  cudaStreamDestroy(stream);
  cudaFree(workspace);
}

TEST(AttentionOverlapCudaTest, DecodesReadWhatTheKernelBeforeWrites) {
  std::vector<NewTokens> sequences;
  for (int32_t s = 0; s < 40; ++s) {
    // Contexts end anywhere in their blocks, and begin one, too.
    sequences.push_back({s * 33, 481 + s, 1, s});
  }
  for (int run = 0; run < 5; ++run) {
    CheckStep(sequences, 40 * 33, /*are_contexts_apart=*/true);
  }
}

TEST(AttentionOverlapCudaTest, PromptsAloneReadWhatTheKernelBeforeWrites) {
  std::vector<NewTokens> sequences;
  int32_t num_tokens = 0;
  for (int32_t s = 0; s < 20; ++s) {
    // Some have a context that is there already.
    const int32_t count = 5 + 17 * s;
    sequences.push_back({s * 33, count + s % 3 * 50, count, num_tokens + s});
    num_tokens += count;
  }
  for (int run = 0; run < 5; ++run) {
    CheckStep(sequences, 20 * 33, /*are_contexts_apart=*/false);
  }
}

TEST(AttentionOverlapCudaTest, AShortPromptReadsWhatTheKernelBeforeWrites) {
  // So few rows that blocks take half a tile; 16 tokens are there already.
  for (int run = 0; run < 5; ++run) {
    CheckStep({{0, 144, 128, 10}}, 16, /*are_contexts_apart=*/false);
  }
}

TEST(AttentionOverlapCudaTest, APrefixThatTheStepComputesIsReadWhenItIsThere) {
  // The second one's prefix of 128 tokens is what the first one computes, and
  // so its answer; its own token's block comes after.
  const std::vector<NewTokens> sequences = {{0, 128, 64, 10}, {0, 129, 1, 5}};
  for (int run = 0; run < 5; ++run) {
    CheckStep(sequences, 16, /*are_contexts_apart=*/false);
  }
}

}  // namespace
}  // namespace quire
