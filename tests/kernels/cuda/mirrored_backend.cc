// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/mirrored_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/status_macros.h"
#include "tests/kernels/cuda/mirror.h"

namespace quire {
namespace {

class MirroredBackend final : public Backend {
 public:
  explicit MirroredBackend(std::unique_ptr<Backend> device)
      : device_(std::move(device)) {}

  std::string name() const override { return device_->name(); }
  DType dtype() const override { return device_->dtype(); }
  DType partial_dtype() const override { return device_->partial_dtype(); }

  absl::StatusOr<MemoryInfo> GetMemoryInfo() override {
    return device_->GetMemoryInfo();
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) override {
    return device_->Allocate(bytes);
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) override {
    return device_->AllocateHost(bytes);
  }
  absl::Status CopyToDevice(const void* host, void* device,
                            int64_t bytes) override {
    return device_->CopyToDevice(host, device, bytes);
  }
  absl::Status CopyToHost(const void* device, void* host,
                          int64_t bytes) override {
    return device_->CopyToHost(device, host, bytes);
  }
  absl::Status Synchronize() override { return device_->Synchronize(); }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked) override {
    return device_->PackWeight(stacked);
  }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> stacked, int32_t num_experts) override {
    return device_->PackExperts(stacked, num_experts);
  }
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackGated(
      const HostMatrix& gate, const HostMatrix& up) override {
    return device_->PackGated(gate, up);
  }
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override {
    return device_->Upload(stacked);
  }

  absl::Status Gemm(const GemmParams& params) override;
  bool adds_products() const override { return device_->adds_products(); }
  absl::Status GatedGemm(const GatedGemmParams& params) override;
  absl::Status Embedding(const EmbeddingParams& params) override;
  absl::Status AddRows(const AddRowsParams& params) override;
  absl::Status GatherRows(const GatherRowsParams& params) override;
  absl::Status Norm(const NormParams& params) override;
  absl::Status Add(const AddParams& params) override;
  absl::Status Activation(const ActivationParams& params) override;
  absl::Status RouteTokens(const RouteTokensParams& params) override;
  absl::Status ExpertGemm(const ExpertGemmParams& params) override;
  absl::Status CombineExperts(const CombineExpertsParams& params) override;
  absl::Status RopeWriteKv(const RopeWriteKvParams& params) override;
  absl::Status Attention(const AttentionParams& params) override;
  absl::Status CopyBlocks(const BlockCopyParams& params) override;
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override;
  absl::Status SwapInBlocks(const BlockCopyParams& params) override;
  absl::Status SampleShard(const SampleShardParams& params) override;
  absl::Status ChooseTokens(const ChooseTokensParams& params) override;
  absl::Status MergeChoices(const MergeChoicesParams& params) override;
  absl::Status CopyRuns(const CopyRunsParams& params) override;

 private:
  int64_t size() const { return SizeOf(dtype()); }

  std::unique_ptr<Backend> device_;
};

// One past the largest, at least 0.
int64_t EndOf(const int32_t* indices, int64_t count) {
  int64_t end = 0;
  for (int64_t i = 0; i < count; ++i) {
    end = std::max(end, int64_t{indices[i]} + 1);
  }
  return end;
}

int64_t CacheBytes(const KvCacheView& cache) {
  return cache.num_blocks * cache.layout.BlockBytes();
}

absl::Status MirroredBackend::Gemm(const GemmParams& params) {
  if (params.m <= 0) return device_->Gemm(params);
  Mirror mirror(device_.get());
  GemmParams p = params;
  const int64_t n = params.weight->n(), k = params.weight->k();
  p.x = mirror.In(params.x, ((params.m - 1) * params.x_stride + k) * size());
  p.bias = mirror.InIf(params.bias, n * size());
  p.y = mirror.Out(params.y, ((params.m - 1) * params.y_stride + n) *
                                 SizeOf(params.y_dtype));
  return mirror.Finish(device_->Gemm(p));
}

absl::Status MirroredBackend::GatedGemm(const GatedGemmParams& params) {
  if (params.m <= 0) return device_->GatedGemm(params);
  Mirror mirror(device_.get());
  GatedGemmParams p = params;
  const int64_t n = params.weight->n(), k = params.weight->k();
  p.x = mirror.In(params.x, params.m * k * size());
  p.products = mirror.Out(params.products, params.m * n * size());
  p.y = mirror.Out(params.y, params.m * n / 2 * size());
  return mirror.Finish(device_->GatedGemm(p));
}

absl::Status MirroredBackend::Embedding(const EmbeddingParams& params) {
  if (params.num_tokens <= 0) return device_->Embedding(params);
  Mirror mirror(device_.get());
  EmbeddingParams p = params;
  if (params.sampled != nullptr) {
    int32_t places = 0;
    for (int32_t t = 0; t < params.num_tokens; ++t) {
      places = std::max(places, ~params.ids[t] + 1);
    }
    p.sampled = mirror.In(params.sampled, places * sizeof(int32_t));
  }
  p.ids = mirror.In(params.ids, params.num_tokens * sizeof(int32_t));
  p.table =
      mirror.In(params.table, int64_t{params.num_rows} * params.width * size());
  p.out = mirror.Out(params.out,
                     int64_t{params.num_tokens} * params.width * size());
  return mirror.Finish(device_->Embedding(p));
}

absl::Status MirroredBackend::AddRows(const AddRowsParams& params) {
  if (params.num_tokens <= 0) return device_->AddRows(params);
  Mirror mirror(device_.get());
  AddRowsParams p = params;
  p.x =
      mirror.Out(params.x, int64_t{params.num_tokens} * params.width * size());
  p.indices = mirror.In(params.indices, params.num_tokens * sizeof(int32_t));
  p.table = mirror.In(
      params.table, (EndOf(params.indices, params.num_tokens) + params.offset) *
                        params.width * size());
  return mirror.Finish(device_->AddRows(p));
}

absl::Status MirroredBackend::GatherRows(const GatherRowsParams& params) {
  if (params.num_rows <= 0) return device_->GatherRows(params);
  Mirror mirror(device_.get());
  GatherRowsParams p = params;
  p.rows = mirror.In(params.rows, params.num_rows * sizeof(int32_t));
  p.x = mirror.In(params.x,
                  EndOf(params.rows, params.num_rows) * params.width * size());
  p.out =
      mirror.Out(params.out, int64_t{params.num_rows} * params.width * size());
  return mirror.Finish(device_->GatherRows(p));
}

absl::Status MirroredBackend::Norm(const NormParams& params) {
  if (params.num_tokens <= 0) return device_->Norm(params);
  Mirror mirror(device_.get());
  NormParams p = params;
  const int64_t n = params.RowStart(params.num_tokens - 1) + params.width;
  p.x = mirror.In(params.x, n * SizeOf(params.x_dtype));
  if (params.residual != nullptr) {
    p.residual = mirror.Out(params.residual, n * size());
  }
  p.weight = mirror.InIf(params.weight, params.width * size());
  p.bias = mirror.InIf(params.bias, params.width * size());
  p.out = mirror.Out(params.out, n * size());
  return mirror.Finish(device_->Norm(p));
}

absl::Status MirroredBackend::Add(const AddParams& params) {
  if (params.n <= 0) return device_->Add(params);
  Mirror mirror(device_.get());
  AddParams p = params;
  p.a = mirror.In(params.a, params.n * SizeOf(params.a_dtype));
  p.b = mirror.In(params.b, params.n * size());
  p.out = mirror.Out(params.out, params.n * size());
  return mirror.Finish(device_->Add(p));
}

absl::Status MirroredBackend::Activation(const ActivationParams& params) {
  if (params.num_tokens <= 0) return device_->Activation(params);
  Mirror mirror(device_.get());
  ActivationParams p = params;
  const int64_t n = int64_t{params.num_tokens} * params.width;
  const int64_t gates = params.kind == ActivationKind::kSiluMul ? 2 : 1;
  p.x = mirror.In(params.x, gates * n * size());
  p.out = mirror.Out(params.out, n * size());
  return mirror.Finish(device_->Activation(p));
}

absl::Status MirroredBackend::RouteTokens(const RouteTokensParams& params) {
  Mirror mirror(device_.get());
  RouteTokensParams p = params;
  const int64_t tokens = params.num_tokens, pairs = tokens * params.top_k;
  if (tokens > 0) {
    p.logits = mirror.In(params.logits, ((tokens - 1) * params.logits_stride +
                                         params.num_experts) *
                                            sizeof(float));
    p.weights = mirror.Out(params.weights, pairs * sizeof(float));
    p.experts = mirror.Out(params.experts, pairs * sizeof(int32_t));
    p.row_tokens = mirror.Out(params.row_tokens, pairs * sizeof(int32_t));
    p.pair_rows = mirror.Out(params.pair_rows, pairs * sizeof(int32_t));
  }
  p.expert_start = mirror.Out(params.expert_start,
                              (params.num_experts + 1) * sizeof(int32_t));
  return mirror.Finish(device_->RouteTokens(p));
}

absl::Status MirroredBackend::ExpertGemm(const ExpertGemmParams& params) {
  if (params.num_rows <= 0) return device_->ExpertGemm(params);
  Mirror mirror(device_.get());
  ExpertGemmParams p = params;
  const int64_t n = params.weight->n(), k = params.weight->k();
  int64_t x_rows = params.num_rows;
  if (params.row_tokens != nullptr) {
    x_rows = EndOf(params.row_tokens, params.num_rows);
    p.row_tokens =
        mirror.In(params.row_tokens, params.num_rows * sizeof(int32_t));
  }
  p.x = mirror.In(params.x, x_rows * k * size());
  p.expert_start = mirror.In(params.expert_start,
                             (params.num_experts + 1) * sizeof(int32_t));
  p.y = mirror.Out(params.y, params.num_rows * n * SizeOf(params.y_dtype));
  return mirror.Finish(device_->ExpertGemm(p));
}

absl::Status MirroredBackend::CombineExperts(
    const CombineExpertsParams& params) {
  if (params.num_tokens <= 0) return device_->CombineExperts(params);
  Mirror mirror(device_.get());
  CombineExpertsParams p = params;
  const int64_t tokens = params.num_tokens, pairs = tokens * params.top_k;
  const int64_t row_bytes = params.width * SizeOf(params.dtype);
  p.pair_rows = mirror.In(params.pair_rows, pairs * sizeof(int32_t));
  p.y = mirror.In(params.y, EndOf(params.pair_rows, pairs) * row_bytes);
  p.weights = mirror.In(params.weights, pairs * sizeof(float));
  p.shared = mirror.InIf(params.shared, tokens * row_bytes);
  p.gate = mirror.InIf(params.gate,
                       ((tokens - 1) * params.gate_stride + 1) * sizeof(float));
  p.out = mirror.Out(params.out, tokens * row_bytes);
  return mirror.Finish(device_->CombineExperts(p));
}

absl::Status MirroredBackend::RopeWriteKv(const RopeWriteKvParams& params) {
  if (params.num_tokens <= 0) return device_->RopeWriteKv(params);
  Mirror mirror(device_.get());
  RopeWriteKvParams p = params;
  const KvLayout& layout = params.cache.layout;
  const int64_t row =
      (params.num_q_heads + 2 * layout.num_kv_heads) * layout.head_dim;
  p.qkv = mirror.Out(
      params.qkv, ((params.num_tokens - 1) * params.qkv_stride + row) * size());
  p.cos_sin =
      mirror.InIf(params.cos_sin, EndOf(params.positions, params.num_tokens) *
                                      params.rotary_dim * sizeof(float));
  p.positions =
      mirror.In(params.positions, params.num_tokens * sizeof(int32_t));
  p.slot_mapping =
      mirror.In(params.slot_mapping, params.num_tokens * sizeof(int32_t));
  p.cache.base = mirror.Out(params.cache.base, CacheBytes(params.cache));
  return mirror.Finish(device_->RopeWriteKv(p));
}

absl::Status MirroredBackend::Attention(const AttentionParams& params) {
  if (params.num_tokens <= 0) return device_->Attention(params);
  Mirror mirror(device_.get());
  AttentionParams p = params;
  const int64_t row = params.num_q_heads * params.cache.layout.head_dim;
  const int64_t seqs = params.num_seqs;
  p.q = mirror.In(params.q,
                  ((params.num_tokens - 1) * params.q_stride + row) * size());
  p.out = mirror.Out(params.out, params.num_tokens * row * size());
  p.cache.base = const_cast<void*>(
      mirror.In<void>(params.cache.base, CacheBytes(params.cache)));
  p.block_tables = mirror.In(params.block_tables,
                             EndOf(params.seq_slots, seqs) *
                                 params.max_blocks_per_seq * sizeof(int32_t));
  p.seq_slots = mirror.In(params.seq_slots, seqs * sizeof(int32_t));
  p.query_start = mirror.In(params.query_start, (seqs + 1) * sizeof(int32_t));
  p.context_lens = mirror.In(params.context_lens, seqs * sizeof(int32_t));
  return mirror.Finish(device_->Attention(p));
}

// One past the last block of either side.
struct BlockEnds {
  int64_t src = 0;
  int64_t dst = 0;
};

BlockEnds EndsOf(const BlockCopyParams& params) {
  BlockEnds ends;
  for (int32_t i = 0; i < params.num_pairs; ++i) {
    ends.src = std::max<int64_t>(ends.src, params.pairs[i].src + 1);
    ends.dst = std::max<int64_t>(ends.dst, params.pairs[i].dst + 1);
  }
  return ends;
}

absl::Status MirroredBackend::CopyBlocks(const BlockCopyParams& params) {
  if (params.num_pairs <= 0) return device_->CopyBlocks(params);
  Mirror mirror(device_.get());
  BlockCopyParams p = params;
  const BlockEnds ends = EndsOf(params);
  const int64_t end = std::max(ends.src, ends.dst);  // of one pool
  p.src = mirror.In(params.src, end * params.block_bytes);
  p.dst = mirror.Out(params.dst, end * params.block_bytes);
  return mirror.Finish(device_->CopyBlocks(p));
}

// The host pool is pinned memory, in which a swap begins with what is there.
absl::Status MirroredBackend::SwapOutBlocks(const BlockCopyParams& params) {
  if (params.num_pairs <= 0) return device_->SwapOutBlocks(params);
  Mirror mirror(device_.get());
  const BlockEnds ends = EndsOf(params);
  const int64_t pool_bytes = ends.dst * params.block_bytes;
  QUIRE_ASSIGN_OR_RETURN(const auto pool, device_->AllocateHost(pool_bytes));
  std::memcpy(pool->data(), params.dst, pool_bytes);
  BlockCopyParams p = params;
  p.src = mirror.In(params.src, ends.src * params.block_bytes);
  p.dst = pool->data();
  QUIRE_RETURN_IF_ERROR(mirror.Finish(device_->SwapOutBlocks(p)));
  std::memcpy(params.dst, pool->data(), pool_bytes);
  return absl::OkStatus();
}

absl::Status MirroredBackend::SwapInBlocks(const BlockCopyParams& params) {
  if (params.num_pairs <= 0) return device_->SwapInBlocks(params);
  Mirror mirror(device_.get());
  const BlockEnds ends = EndsOf(params);
  const int64_t pool_bytes = ends.src * params.block_bytes;
  QUIRE_ASSIGN_OR_RETURN(const auto pool, device_->AllocateHost(pool_bytes));
  std::memcpy(pool->data(), params.src, pool_bytes);
  BlockCopyParams p = params;
  p.src = pool->data();
  p.dst = mirror.Out(params.dst, ends.dst * params.block_bytes);
  return mirror.Finish(device_->SwapInBlocks(p));
}

// Rows and results are host memory on every device.
absl::Status MirroredBackend::SampleShard(const SampleShardParams& params) {
  Mirror mirror(device_.get());
  SampleShardParams p = params;
  p.logits = mirror.In(params.logits, int64_t{params.num_rows} *
                                          params.num_vocab * sizeof(float));
  return mirror.Finish(device_->SampleShard(p));
}

int64_t NumSlots(const ChoiceRow* rows, int64_t num_rows) {
  int32_t slots = 0;
  for (int64_t i = 0; i < num_rows; ++i) {
    slots = std::max(slots, rows[i].slot + 1);
  }
  return slots;
}

absl::Status MirroredBackend::ChooseTokens(const ChooseTokensParams& params) {
  Mirror mirror(device_.get());
  ChooseTokensParams p = params;
  const int64_t rows = params.num_rows;
  p.logits = mirror.In(params.logits, rows * params.num_vocab * sizeof(float));
  p.rows = mirror.In(params.rows, rows * sizeof(ChoiceRow));
  if (params.choices != nullptr) {
    p.choices = mirror.Out(params.choices, rows * sizeof(ShardChoice));
    return mirror.Finish(device_->ChooseTokens(p));
  }
  p.tokens = mirror.Out(params.tokens, rows * sizeof(int32_t));
  p.by_slot =
      mirror.Out(params.by_slot, NumSlots(params.rows, rows) * sizeof(int32_t));
  return mirror.Finish(device_->ChooseTokens(p));
}

absl::Status MirroredBackend::MergeChoices(const MergeChoicesParams& params) {
  Mirror mirror(device_.get());
  MergeChoicesParams p = params;
  const int64_t rows = params.num_rows;
  p.choices =
      mirror.In(params.choices, params.num_shards * rows * sizeof(ShardChoice));
  p.rows = mirror.In(params.rows, rows * sizeof(ChoiceRow));
  p.tokens = mirror.Out(params.tokens, rows * sizeof(int32_t));
  p.by_slot =
      mirror.Out(params.by_slot, NumSlots(params.rows, rows) * sizeof(int32_t));
  return mirror.Finish(device_->MergeChoices(p));
}

absl::Status MirroredBackend::CopyRuns(const CopyRunsParams& params) {
  Mirror mirror(device_.get());
  CopyRunsParams p = params;
  int64_t from_end = 0, to_end = 0;
  for (int32_t i = 0; i < params.num_runs; ++i) {
    const WordRun& run = params.runs[i];
    from_end = std::max<int64_t>(from_end, run.from + run.count);
    to_end = std::max<int64_t>(to_end, run.to + run.count);
  }
  p.runs = mirror.In(params.runs, params.num_runs * sizeof(WordRun));
  p.values = mirror.In(params.values, from_end * sizeof(int32_t));
  p.out = mirror.Out(params.out, to_end * sizeof(int32_t));
  return mirror.Finish(device_->CopyRuns(p));
}

}  // namespace

std::unique_ptr<Backend> MirrorHostMemory(std::unique_ptr<Backend> device) {
  return std::make_unique<MirroredBackend>(std::move(device));
}

}  // namespace quire
