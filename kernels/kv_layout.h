// SPDX-License-Identifier: Apache-2.0
//
// Where a KV block's bytes lie.
//
//   [num_blocks][num_layers][2][num_kv_heads][block_size][head_dim]
//
// (2: keys, then values.) One block is one contiguous span over all layers of
// the rank, so copying or swapping it moves one long run of bytes; within a
// layer, one head's tokens are contiguous, so attention streams them.
//
// Under KvOrder::kTiles a head's tokens lie in parts of 64 elements,
//
//   [head_dim / 64][block_size][64]
//
// and the eight units of 16 bytes of a token's part are permuted: unit u of
// token t is at u ^ (t % 8). Matrix instructions read so without bank conflicts
// what was copied to shared memory as it is. REQUIRES: 2 bytes an element,
// head_dim a multiple of 64, block_size of 8; no key bounds.
//
// With key bounds, a block ends with
//
//   [num_layers][num_kv_heads][2][head_dim]
//
// (2: the least, then the greatest element of the block's keys, channel by
// channel), so that they move with the block when it is copied or swapped.
// They mean something once the block is full: see UpdateKeyBoundsParams.
//
// A contiguous cache (one row per sequence) has one block per sequence,
// block_size being the row's capacity, in token order:
//
//   [num_rows][capacity][num_layers][2][num_kv_heads][head_dim], row padding
//
// so that a run of memory holds whole tokens, and a row of n tokens needs
// memory for its first n only (vAttention's tensor slicing, arXiv 2405.04437,
// section 6.2): one page of 2 MiB holds 16 tokens of a Llama-3.1-8B. The price
// is the stride from token to token.
#ifndef KERNELS_KV_LAYOUT_H_
#define KERNELS_KV_LAYOUT_H_

#include <cstdint>

#include "kernels/dtype.h"

namespace quire {

// What lies closest together in a block.
enum class KvOrder : uint8_t {
  kHeads,   // the tokens of one head of one layer
  kTokens,  // the heads and layers of one token
  kTiles,   // as kHeads, in the order within a head that tensor cores read
};

// Under kTiles, elements of a part of a token's row and of a unit of those, and
// tokens whose units are permuted among each other.
inline constexpr int32_t kTilePart = 64;
inline constexpr int32_t kTileUnit = 8;
inline constexpr int32_t kTileTokens = 8;

struct KvLayout {
  int32_t num_layers;
  int32_t num_kv_heads;  // of this rank
  int32_t head_dim;      // elements
  int32_t block_size;    // tokens
  DType dtype;
  KvOrder order = KvOrder::kHeads;
  int64_t block_padding = 0;    // elements after each block
  bool has_key_bounds = false;  // REQUIRES: kHeads

  // Elements from one block to the next, 64 bits as a cache passes 2^31.
  constexpr int64_t BlockStride() const {
    return KeyBoundsOffset(num_layers, 0) + block_padding;
  }
  // Elements from a block's first to the bounds of a layer's head: head_dim
  // least elements, then as many greatest ones.
  constexpr int64_t KeyBoundsOffset(int32_t layer_idx, int32_t head) const {
    const int64_t tokens =
        int64_t{2} * num_layers * num_kv_heads * block_size * head_dim;
    if (!has_key_bounds) return tokens;
    return tokens + (int64_t{layer_idx} * num_kv_heads + head) * 2 * head_dim;
  }
  // Elements from one layer's keys to the next layer's, inside a block.
  constexpr int64_t LayerStride() const { return 2 * HeadsStride(); }
  // Elements from a layer's keys to its values, inside a block.
  constexpr int64_t HeadsStride() const {
    return num_kv_heads * (order == KvOrder::kTokens ? head_dim : HeadStride());
  }
  // Elements from one head's first token to the next head's, in a layer.
  constexpr int64_t HeadStride() const {
    return order == KvOrder::kTokens ? head_dim
                                     : int64_t{block_size} * head_dim;
  }
  // Elements from one token to the next, in a head. REQUIRES: not kTiles.
  constexpr int64_t TokenStride() const {
    return order == KvOrder::kTokens
               ? int64_t{2} * num_layers * num_kv_heads * head_dim
               : head_dim;
  }
  // Elements from a head's first to element `element` of a block's token.
  constexpr int64_t ElementOffset(int32_t token, int32_t element) const {
    if (order != KvOrder::kTiles) return token * TokenStride() + element;
    const int32_t unit =
        (element % kTilePart / kTileUnit) ^ (token % kTileTokens);
    return (int64_t{element / kTilePart} * block_size + token) * kTilePart +
           unit * kTileUnit + element % kTileUnit;
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
