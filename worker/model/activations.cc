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
  const int64_t logits =
      always.Add(rows * shape.vocab.num_ids * int64_t{sizeof(float)});
  Layout attention(always.end());
  const int64_t qkv =
      attention.Add(tokens * (shape.q_size() + 2 * shape.kv_size()) * element);
  const int64_t attended = attention.Add(tokens * shape.q_size() * element);
  Layout mlp(always.end());
  const int64_t mlp_bytes = tokens * shape.num_intermediate * element;
  const int64_t mlp_in = mlp.Add(gated ? 2 * mlp_bytes : mlp_bytes);
  const int64_t mlp_act = gated ? mlp.Add(mlp_bytes) : mlp_in;
  Layout ends(always.end());
  const int64_t embedded = ends.Add(tokens * embedding * element);
  const int64_t sampled = ends.Add(rows * hidden * element);
  const int64_t head_input =
      ends.Add(rows * std::max(hidden, embedding) * element);

  Activations out;
  QUIRE_ASSIGN_OR_RETURN(
      out.buffer,
      backend.Allocate(std::max({attention.end(), mlp.end(), ends.end()})));
  char* base = out.buffer->as<char>();
  out.residual = base + residual;
  out.normed = base + normed;
  out.partial = base + partial;
  out.logits = reinterpret_cast<float*>(base + logits);
  out.qkv = base + qkv;
  out.attended = base + attended;
  out.mlp_in = base + mlp_in;
  out.mlp_act = base + mlp_act;
  out.embedded = base + embedded;
  out.sampled = base + sampled;
  out.head_input = base + head_input;
  return out;
}

}  // namespace quire
