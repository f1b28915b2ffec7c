// SPDX-License-Identifier: Apache-2.0
//
// Writing keys and values into the paged cache and attending to them
// (PagedAttention, SOSP'23, section 4.3). Hq and Hkv are this rank's query and
// KV heads, D the head dim in elements, T the model dtype.
#ifndef KERNELS_ATTENTION_H_
#define KERNELS_ATTENTION_H_

#include <cstdint>

#include "kernels/kv_layout.h"

namespace quire {

// Rotates Q in place, and writes K (rotated) and V to the cache.
struct RopeWriteKvParams {
  void* qkv;             // [num_tokens, (Hq + 2 Hkv) * D] T: q, k, v heads
  int64_t qkv_stride;    // elements from token to token
  const float* cos_sin;  // [max positions, rotary_dim]: cosines, then sines;
                         // null: no rotation
  const int32_t* positions;     // [num_tokens]
  const int32_t* slot_mapping;  // [num_tokens] block * block_size + offset;
                                // -1 marks padding: nothing is written
  KvCacheView cache;
  int32_t rotary_dim;  // even, <= D; element i pairs with i + rotary_dim / 2
  int32_t num_q_heads;
  int32_t num_tokens;
};

// Notes the least and the greatest key, channel by channel, of every block that
// the step's tokens fill (those whose slot is a block's last), for attention
// that chooses pages (Quest, arXiv 2406.10774, section 3). A block's bounds
// are a function of its keys alone, and comparing is exact: neither the batch
// nor chunks nor the order of writing show, and whoever fills a block again
// overwrites what its last holder left. Until then nobody reads them.
// REQUIRES: cache.layout.has_key_bounds; the step's keys are written.
struct UpdateKeyBoundsParams {
  const int32_t* slot_mapping;  // [num_tokens] as in RopeWriteKvParams
  KvCacheView cache;
  int32_t num_tokens;
};

// Rows that read some pages (blocks) of their context only, the same for all
// query heads of a KV head: the first page, the two most recent ones, and of
// the others those that could hold the largest score (Quest, section 3).
// A page's bound is the largest, over the group's query heads, of
//
//   sum over channels c of max(q_c * least_c, q_c * greatest_c);
//
// of equal bounds the earlier page wins. A row reads its pages in the order of
// the context, with the arithmetic of any other row. Which they are depends on
// its own sequence only, and pages before a row's own are full, hence final: a
// row that is computed again, alone or in a chunk, reads the same.
struct SparseRows {
  // [num_seqs] rows at positions from this on are sparse. Null: none is.
  // REQUIRES: at least num_pages * block_size, below which a row reads all.
  const int32_t* first_positions = nullptr;
  int32_t num_pages = 0;  // that a sparse row reads, its own included: > 3
};

// Causal attention of each sequence's new tokens over its whole context, whose
// keys and values are in the cache already (the new tokens' own included).
// Prefill chunks and decodes may be mixed. A query at position p attends to
// positions (p - sliding_window, p].
struct AttentionParams {
  const void* q;     // [num_tokens, Hq, D] T
  int64_t q_stride;  // elements from token to token
  void* out;         // [num_tokens, Hq * D] T
  KvCacheView cache;
  const int32_t* block_tables;  // [rows, max_blocks_per_seq]
  const int32_t* seq_slots;     // [num_seqs] each sequence's row of the above
  const int32_t* query_start;   // [num_seqs + 1] prefix sums of new tokens
  const int32_t* context_lens;  // [num_seqs] tokens in the cache, new included
  int32_t max_blocks_per_seq;
  int32_t num_seqs;
  // Those from query_start[num_seqs] on are padding: their rows of out stay as
  // they are.
  int32_t num_tokens;
  int32_t num_q_heads;     // a multiple of cache.layout.num_kv_heads
  int32_t sliding_window;  // tokens, 0: unlimited
  float scale;             // multiplies q . k, >= 0
  SparseRows sparse = {};  // REQUIRES: key bounds; the window holds all
  // No sequence reads what is written for another's new tokens. So a kernel may
  // read keys and values of tokens that are not new before those of new ones
  // are written. A prefix that is shared while it is computed forbids it.
  bool are_contexts_apart = false;
  // The fewest new tokens of any one sequence, those without any aside; 0:
  // unknown. What decodes alone need is not run for a step without them.
  int32_t min_new_tokens = 0;
};

// A layer's attention from its product of queries, keys and values on:
// RopeWriteKv(), UpdateKeyBounds() if rows are sparse, Attention().
// REQUIRES: attention.q is write.qkv, and so its stride; both name the same
// tokens, heads and cache; slot_mapping and positions say of every token that
// is a sequence's what block_tables and context_lens do.
struct AttendNewTokensParams {
  RopeWriteKvParams write;
  AttentionParams attention;
};

// Block moves of one step, all in one call. Numbers are block indices.
struct BlockPair {
  int32_t src;
  int32_t dst;
};

// Copies within the device cache (copy-on-write), or between it and the host
// pool (swap). Pairs of one call do not overlap.
struct BlockCopyParams {
  const void* src;         // cache or host pool
  void* dst;               // cache or host pool
  const BlockPair* pairs;  // [num_pairs], host memory
  int64_t block_bytes;
  int32_t num_pairs;
};

}  // namespace quire

#endif  // KERNELS_ATTENTION_H_
