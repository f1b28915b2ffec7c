// SPDX-License-Identifier: Apache-2.0
//
// Which part of a model a tensor-parallel rank holds.
#ifndef WORKER_MODEL_RANK_SHAPE_H_
#define WORKER_MODEL_RANK_SHAPE_H_

#include <cstdint>

#include "common/model_config.h"
#include "worker/model/model.h"

namespace quire {

// Ranks hold consecutive runs of query heads, of KV heads (one, copied, when
// there are fewer than ranks), of MLP columns (each expert's too) and of
// vocabulary rows.
struct RankShape {
  int32_t rank = 0;
  int32_t world_size = 1;
  int32_t head_dim = 0;
  int32_t first_q_head = 0;
  int32_t num_q_heads = 0;
  int32_t first_kv_head = 0;
  int32_t num_kv_heads = 0;
  int32_t first_intermediate = 0;
  int32_t num_intermediate = 0;
  // Of each expert, and of the shared one.
  int32_t first_expert_intermediate = 0;
  int32_t num_expert_intermediate = 0;
  int32_t first_shared_intermediate = 0;
  int32_t num_shared_intermediate = 0;
  VocabShard vocab;

  int32_t q_size() const { return num_q_heads * head_dim; }
  int32_t kv_size() const { return num_kv_heads * head_dim; }
};

// Router products have rows for each expert and for the shared expert's gate,
// up to a multiple that every product multiplies well.
constexpr int64_t kRouterRowMultiple = 8;
int64_t RouterRows(const MoeConfig& moe);

// REQUIRES: config.CheckTensorParallel(world_size) is ok, 0 <= rank <
// world_size.
RankShape MakeRankShape(const ModelConfig& config, int32_t rank,
                        int32_t world_size);

}  // namespace quire

#endif  // WORKER_MODEL_RANK_SHAPE_H_
