// SPDX-License-Identifier: Apache-2.0
#include "worker/model/activations.h"

#include <algorithm>

#include "common/status_macros.h"

namespace quire {
namespace {

// Hands out aligned runs of bytes one behind the other.
class Layout {
 public:
  explicit Layout(int64_t begin) : end_(begin) {}

  int64_t Add(int64_t bytes) {
    const int64_t begin = end_;
    end_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return begin;
  }
  int64_t end() const { return end_; }

 private:
  static constexpr int64_t kAlignment = 256;  // what any device wants
  int64_t end_;
};

// Bytes before each of a mixture of experts' tensors.
struct ExpertOffsets {
  int64_t router_logits;
  int64_t weights;
  int64_t experts;
  int64_t row_tokens;
  int64_t pair_rows;
  int64_t start;
  int64_t act;
  int64_t in;  // and out: inputs are done with when outputs are written
  int64_t end;
};

ExpertOffsets PlaceExperts(const ModelConfig& config, const RankShape& shape,
                           int64_t tokens, const Backend& backend,
                           int64_t begin) {
  const MoeConfig& moe = config.moe;
  const int64_t rows = tokens * moe.top_k;
  const int64_t act_bytes =
      rows * shape.num_expert_intermediate * SizeOf(backend.dtype());
  const int64_t out_bytes =
      rows * config.hidden_size * SizeOf(backend.partial_dtype());
  Layout layout(begin);
  ExpertOffsets offsets;
  offsets.router_logits =
      layout.Add(tokens * RouterRows(moe) * int64_t{sizeof(float)});
  offsets.weights = layout.Add(rows * int64_t{sizeof(float)});
  offsets.experts = layout.Add(rows * int64_t{sizeof(int32_t)});
  offsets.row_tokens = layout.Add(rows * int64_t{sizeof(int32_t)});
  offsets.pair_rows = layout.Add(rows * int64_t{sizeof(int32_t)});
  offsets.start = layout.Add((moe.num_experts + 1) * int64_t{sizeof(int32_t)});
  offsets.act = layout.Add(act_bytes);
  offsets.in = layout.Add(std::max(2 * act_bytes, out_bytes));
  offsets.end = layout.end();
  return offsets;
}

void SetExperts(const ExpertOffsets& offsets, char* base, Activations* out) {
  out->router_logits = reinterpret_cast<float*>(base + offsets.router_logits);
  out->expert_weights = reinterpret_cast<float*>(base + offsets.weights);
  out->experts = reinterpret_cast<int32_t*>(base + offsets.experts);
  out->row_tokens = reinterpret_cast<int32_t*>(base + offsets.row_tokens);
  out->pair_rows = reinterpret_cast<int32_t*>(base + offsets.pair_rows);
  out->expert_start = reinterpret_cast<int32_t*>(base + offsets.start);
  out->expert_act = base + offsets.act;
  out->expert_in = base + offsets.in;
  out->expert_out = base + offsets.in;
}

}  // namespace

absl::StatusOr<Activations> AllocateActivations(const ModelConfig& config,
                                                const RankShape& shape,
                                                const StepLimits& limits,
                                                Backend& backend) {
  const int64_t tokens = limits.max_num_batched_tokens;
  const int64_t rows = limits.max_num_seqs;
  const int64_t element = SizeOf(backend.dtype());
  const int64_t hidden = config.hidden_size;
  const int64_t embedding = config.embedding_size;
  const bool gated = config.mlp == MlpType::kSiluGated;

  Layout always(0);
  const int64_t residual = always.Add(tokens * hidden * element);
  const int64_t normed = always.Add(tokens * hidden * element);
  const int64_t partial =
      always.Add(tokens * hidden * SizeOf(backend.partial_dtype()));
  const int64_t squares =
      always.Add((hidden + FoldedNorm::kColumns - 1) / FoldedNorm::kColumns *
                 FoldedNorm::kMaxRows * int64_t{sizeof(float)});
  const int64_t kept = always.Add(rows * hidden * element);
  const int64_t logits =
      always.Add(rows * shape.vocab.num_ids * int64_t{sizeof(float)});
  Layout attention(always.end());
  const int64_t qkv =
      attention.Add(tokens * (shape.q_size() + 2 * shape.kv_size()) * element);
  const int64_t attended = attention.Add(tokens * shape.q_size() * element);
  Layout mlp(always.end());
  const int64_t mlp_bytes =
      tokens * element *
      std::max(shape.num_intermediate, shape.num_shared_intermediate);
  const int64_t mlp_in = mlp.Add(gated ? 2 * mlp_bytes : mlp_bytes);
  const int64_t mlp_act = gated ? mlp.Add(mlp_bytes) : mlp_in;
  const ExpertOffsets experts =
      PlaceExperts(config, shape, tokens, backend, always.end());
  Layout ends(always.end());
  const int64_t embedded = ends.Add(tokens * embedding * element);
  const int64_t sampled = ends.Add(rows * hidden * element);
  const int64_t projected = ends.Add(rows * embedding * element);

  Activations out;
  QUIRE_ASSIGN_OR_RETURN(
      out.buffer, backend.Allocate(std::max(
                      {attention.end(), mlp.end(), experts.end, ends.end()})));
  char* base = out.buffer->as<char>();
  out.residual = base + residual;
  out.normed = base + normed;
  out.partial = base + partial;
  out.squares = reinterpret_cast<float*>(base + squares);
  out.kept = base + kept;
  out.logits = reinterpret_cast<float*>(base + logits);
  out.qkv = base + qkv;
  out.attended = base + attended;
  out.mlp_in = base + mlp_in;
  out.mlp_act = base + mlp_act;
  if (config.moe.num_experts > 0) SetExperts(experts, base, &out);
  out.embedded = base + embedded;
  out.sampled = base + sampled;
  out.projected = base + projected;
  return out;
}

}  // namespace quire
