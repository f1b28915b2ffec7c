// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rank_shape.h"

#include <algorithm>

namespace quire {

int64_t RouterRows(const MoeConfig& moe) {
  const int64_t rows =
      moe.num_experts + (moe.shared_intermediate_size > 0 ? 1 : 0);
  return (rows + kRouterRowMultiple - 1) / kRouterRowMultiple *
         kRouterRowMultiple;
}

RankShape MakeRankShape(const ModelConfig& config, int32_t rank,
                        int32_t world_size) {
  RankShape shape;
  shape.rank = rank;
  shape.world_size = world_size;
  shape.head_dim = config.head_dim;
  shape.num_q_heads = config.num_q_heads / world_size;
  shape.first_q_head = rank * shape.num_q_heads;
  shape.num_kv_heads = std::max(1, config.num_kv_heads / world_size);
  // The KV heads of this rank's first query head, which also holds when a KV
  // head is shared by several ranks.
  shape.first_kv_head =
      shape.first_q_head / (config.num_q_heads / config.num_kv_heads);
  shape.num_intermediate = config.intermediate_size / world_size;
  shape.first_intermediate = rank * shape.num_intermediate;
  shape.num_expert_intermediate = config.moe.intermediate_size / world_size;
  shape.first_expert_intermediate = rank * shape.num_expert_intermediate;
  shape.num_shared_intermediate =
      config.moe.shared_intermediate_size / world_size;
  shape.first_shared_intermediate = rank * shape.num_shared_intermediate;
  const int32_t rows = (config.vocab_size + world_size - 1) / world_size;
  shape.vocab.first_id = rank * rows;
  shape.vocab.num_ids =
      std::min(rows, config.vocab_size - shape.vocab.first_id);
  return shape;
}

}  // namespace quire
