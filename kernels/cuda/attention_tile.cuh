// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_ATTENTION_TILE_CUH_
#define KERNELS_CUDA_ATTENTION_TILE_CUH_

#include <cstdint>

#include "kernels/cuda/attention_plan.h"

namespace quire::attention {

// The rows of one prefill tile.
struct TileRows {
  int32_t query_start;
  int32_t position;  // of the sequence's first new token
  int32_t row_begin;
  int32_t num_rows;
  int32_t kv_begin;  // positions that any of the rows attends to
  int32_t kv_end;
  int32_t seq_slot;
  int32_t kv_head;
};

// Of the tile's rows, at most so many: none if num_rows is not positive.
static __device__ __forceinline__ TileRows
DescribeTile(const AttentionParams& p, const PrefillTile& tile, int group,
             int kv_head, int most_rows = kPrefillRows) {
  TileRows rows;
  rows.query_start = p.query_start[tile.seq];
  const int tokens = p.query_start[tile.seq + 1] - rows.query_start;
  rows.position = p.context_lens[tile.seq] - tokens;
  rows.row_begin = tile.row_begin;
  rows.num_rows = min(most_rows, tokens * group - tile.row_begin);
  const int first = rows.position + tile.row_begin / group;
  const int last = rows.position + (tile.row_begin + rows.num_rows - 1) / group;
  rows.kv_begin =
      p.sliding_window > 0 ? max(0, first + 1 - p.sliding_window) : 0;
  rows.kv_end = max(rows.kv_begin, last + 1);
  rows.seq_slot = p.seq_slots[tile.seq];
  rows.kv_head = kv_head;
  return rows;
}

// For the last of a prefill's blocks to leave: makes the plan ready for the
// next layer.
static __device__ __forceinline__ void LeavePrefill(const AttentionPlan& plan) {
  __threadfence();
  if (atomicAdd(&plan.header->blocks_done, 1) == gridDim.x - 1) {
    plan.header->blocks_done = 0;
    plan.header->next_tile = 0;
  }
}

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_TILE_CUH_
