// SPDX-License-Identifier: Apache-2.0
//
// Tokens of rows that top_k cuts to few, from shards of the vocabulary: each
// lists as many of its largest, and from all lists follows the token. It is the
// one that a shaped choice (kernels/shaped_choice.h) takes from the whole row,
// bit by bit, with equal logits and with top_p and min_p, too: those look at
// nothing but what top_k leaves, so no sum over a shard enters.
#ifndef KERNELS_LISTED_CHOICE_H_
#define KERNELS_LISTED_CHOICE_H_

#include <cstdint>

#include "kernels/shaped_choice.h"

namespace quire {

// As many as top_k may leave.
inline constexpr int32_t kMaxListed = 1024;

struct ListedToken {
  float logit;  // divided by temperature; not -infinity, nor -0
  int32_t token_id;
};

// What a shard says of a row. Its largest tokens follow, in any order: top_k of
// them by (logit descending, id ascending), or all.
struct ListedShard {
  float max;           // largest logit, before temperature
  int32_t num_tokens;  // [0, top_k]; kLogitsNotFinite: one is NaN or +infinity
};
static_assert(sizeof(ListedShard) == sizeof(ListedToken));

// All arrays are device memory, here and below.
struct ListTokensParams {
  const float* logits;  // [any, num_vocab]
  int32_t num_vocab;    // columns of the shard; may be 0
  int32_t first_id;     // token id of column 0
  // Not greedy, with a top_k in [1, max_tokens]; all ids are allowed.
  const ShapedRow* rows;  // [num_rows]
  int32_t num_rows;
  int32_t max_tokens;  // that a list may hold, [1, kMaxListed]
  // [num_rows, 1 + max_tokens] out: a ListedShard, then its tokens.
  ListedToken* lists;
};

// From the lists of all shards to tokens.
struct MergeListsParams {
  const ListedToken* lists;  // [num_shards, num_rows, 1 + max_tokens]
  const ShapedRow* rows;     // [num_rows]
  int32_t* tokens;           // [any] by row: out, or a ChoiceError
  int32_t* by_slot;          // [slots] out: the token again
  int32_t num_shards;
  int32_t num_rows;
  int32_t max_tokens;
};

}  // namespace quire

#endif  // KERNELS_LISTED_CHOICE_H_
