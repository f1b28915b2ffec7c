// SPDX-License-Identifier: Apache-2.0
//
// The unit of attention work: a few consecutive new tokens of one sequence, for
// the query heads of one KV head. A row is (token, query head of the group).
#ifndef KERNELS_CPU_ATTENTION_TILE_H_
#define KERNELS_CPU_ATTENTION_TILE_H_

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/cpu/attention.h"

namespace quire {

// Rows of a tile: enough to pay for transposing the keys once per tile.
constexpr int32_t kAttentionRows = 64;
// Positions whose keys lie transposed together: [head_dim, 64], L1-sized.
constexpr int32_t kKeyChunk = 64;

struct AttentionTile {
  const AttentionParams* params;
  const int32_t* block_table;
  int32_t kv_head;
  int32_t group;           // query heads per KV head
  int32_t first_token;     // row of q and out
  int32_t first_position;  // of that token
  int32_t num_tokens;

  int32_t num_rows() const { return num_tokens * group; }
  // The positions that a row attends to are [Begin, End).
  int32_t End(int32_t row) const { return first_position + row / group + 1; }
  int32_t Begin(int32_t row) const {
    const int32_t window = params->sliding_window;
    return window > 0 ? std::max(0, End(row) - window) : 0;
  }
  int32_t first_split() const { return Begin(0) / kAttentionSplit; }
  int32_t end_split() const {
    return (End(num_rows() - 1) + kAttentionSplit - 1) / kAttentionSplit;
  }
};

// Elements of a padded head: whole vectors of up to 16 lanes.
inline int64_t PaddedHeadDim(int32_t head_dim) { return (head_dim + 15) & ~15; }

// Online softmax states of a tile's rows.
struct AttentionState {
  float* out;  // [rows, padded head dim] not yet divided by sum
  float* max;  // [rows] -infinity: no position yet
  float* sum;  // [rows]

  static int64_t Size(int64_t rows, int64_t padded_dim) {
    return rows * (padded_dim + 16);
  }
  static AttentionState At(float* base, int64_t rows, int64_t padded_dim) {
    float* max = base + rows * padded_dim;
    return {base, max, max + rows};
  }
};

// One thread's buffers for a tile. All 64-byte aligned.
struct AttentionBuffers {
  float* q;       // [rows, head_dim]
  float* keys;    // [split / kKeyChunk, head_dim, kKeyChunk]
  float* values;  // [split, padded head dim]
  float* scores;  // [rows, split]
  AttentionState split_state;
  AttentionState state;

  static int64_t Size(int64_t rows, int32_t head_dim) {
    const int64_t padded = PaddedHeadDim(head_dim);
    return rows * padded + 2 * kAttentionSplit * padded +
           rows * kAttentionSplit + 2 * AttentionState::Size(rows, padded);
  }
  static AttentionBuffers At(float* base, int64_t rows, int32_t head_dim) {
    const int64_t padded = PaddedHeadDim(head_dim);
    AttentionBuffers buffers;
    buffers.q = base;
    buffers.keys = buffers.q + rows * padded;
    buffers.values = buffers.keys + kAttentionSplit * padded;
    buffers.scores = buffers.values + kAttentionSplit * padded;
    float* states = buffers.scores + rows * kAttentionSplit;
    buffers.split_state = AttentionState::At(states, rows, padded);
    buffers.state = AttentionState::At(
        states + AttentionState::Size(rows, padded), rows, padded);
    return buffers;
  }
};

}  // namespace quire

#endif  // KERNELS_CPU_ATTENTION_TILE_H_
