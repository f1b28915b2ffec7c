// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/step_floor.h"

#include <algorithm>

#include "glog/logging.h"

namespace quire {
namespace {

constexpr double kBytes = 2;  // of an element

double ProductSeconds(const ModelConfig& config, const StepWork& work,
                      const FloorRates& rates) {
  const WeightCounts weights = WeightsOf(config);
  const double read = kBytes * (weights.layers + weights.head);
  // A query and a key, a weight and a value: two products of two operations.
  const double attention =
      4.0 * config.num_layers * config.q_size() * work.prompt_pairs;
  const double flop =
      2 * (weights.layers * work.num_tokens + weights.head * work.num_sampled) +
      attention;
  return std::max(read / rates.read_bytes, flop / rates.product_flop);
}

double SumSeconds(const ModelConfig& config, double num_tokens,
                  int32_t num_ranks, const FloorRates& rates) {
  if (num_ranks == 1) return 0;
  const double received = 2.0 * (num_ranks - 1) / num_ranks * kBytes *
                          config.hidden_size * num_tokens;
  return 2 * config.num_layers *
         (rates.sum_seconds + received / rates.link_bytes);
}

}  // namespace

WeightCounts WeightsOf(const ModelConfig& config) {
  const double hidden = config.hidden_size;
  const double num_mlp = config.mlp == MlpType::kSiluGated ? 3 : 2;
  return {.layers = config.num_layers * hidden *
                    (2.0 * config.q_size() + 2.0 * config.kv_size() +
                     num_mlp * config.intermediate_size),
          .head = hidden * config.vocab_size};
}

double KvBytes(const ModelConfig& config, int32_t num_ranks) {
  // Ranks beyond the heads have a copy of one.
  const double num_heads =
      std::max(1.0, static_cast<double>(config.num_kv_heads) / num_ranks);
  return 2 * kBytes * config.num_layers * num_heads * config.head_dim;
}

double FloorSeconds(const ModelConfig& config, const StepWork& work,
                    int32_t num_ranks, const FloorRates& rates) {
  CHECK_GT(num_ranks, 0);
  return ProductSeconds(config, work, rates) / num_ranks +
         work.kv_tokens * KvBytes(config, num_ranks) / rates.read_bytes +
         SumSeconds(config, work.num_tokens, num_ranks, rates);
}

}  // namespace quire
