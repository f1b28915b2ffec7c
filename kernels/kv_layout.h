// SPDX-License-Identifier: Apache-2.0
//
// Where a KV block's bytes lie.
//
//   [num_blocks][num_layers][2][num_kv_heads][block_size][head_dim]
//
// (2: keys, then values.) One block is one contiguous span over all layers of
// the rank, so copying or swapping it moves one long run of bytes; within a
// layer, one head's tokens are contiguous, so attention streams them.
// A contiguous cache (one row per sequence) is the same layout with
// block_size = the row's capacity and one block per sequence.
#ifndef KERNELS_KV_LAYOUT_H_
#define KERNELS_KV_LAYOUT_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace quire {

struct KvLayout {
  int32_t num_layers;
  int32_t num_kv_heads;  // of this rank
  int32_t head_dim;      // elements
  int32_t block_size;    // tokens
  DType dtype;

  // Elements from one block to the next, 64 bits as a cache passes 2^31.
  constexpr int64_t BlockStride() const { return LayerStride() * num_layers; }
  // Elements from one layer's keys to the next layer's, inside a block.
  constexpr int64_t LayerStride() const { return 2 * HeadsStride(); }
  // Elements from a layer's keys to its values, inside a block.
  constexpr int64_t HeadsStride() const {
    return int64_t{num_kv_heads} * block_size * head_dim;
  }
  constexpr int64_t BlockBytes() const { return BlockStride() * SizeOf(dtype); }
};

// One layer of a cache, as kernels see it.
struct KvCacheView {
  void* base;  // [num_blocks] blocks of layout.BlockStride() elements
  KvLayout layout;
  int32_t layer_idx;  // [0, layout.num_layers)
  int32_t num_blocks;
};

}  // namespace quire

#endif  // KERNELS_KV_LAYOUT_H_
