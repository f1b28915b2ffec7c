// SPDX-License-Identifier: Apache-2.0
//
// Tokens that a device chooses alone from rows that ChooseTokens (sample.h)
// does not serve: lists and penalties change their logits, masks or filters
// leave some out, or their log probabilities are wanted. The token is what
// worker/sampler chooses from the same logits: the order of changes is that of
// sample.h, filters apply as ChooseToken of worker/sampler/merge.h says.
//
// How often a sequence has seen a token is counted on the device, so that the
// next step may be enqueued before this one's token is known.
#ifndef KERNELS_SHAPED_CHOICE_H_
#define KERNELS_SHAPED_CHOICE_H_

#include <cstdint>

#include "kernels/sample.h"

namespace quire {

// Likeliest tokens besides the chosen one.
inline constexpr int32_t kMaxTopLogprobs = 32;

// Changes to one row's logits.
struct EditRow {
  int32_t row;                     // of the logits
  int32_t slot;                    // of the sequence
  int32_t first_bias, num_biases;  // of EditLogitsParams::biases
  // Of EditLogitsParams::masked. Passed over if nothing else could be chosen.
  int32_t first_masked, num_masked;
  int32_t first_allowed, num_allowed_words;  // as the row's ShapedRow has them
  // Where the raw logits of what changes are kept, in `saved`: num_biases +
  // num_masked + as many as the slot may have seen; of a shard whose allowed
  // ids are not all, num_vocab. -1: they are not wanted.
  int32_t first_saved;
  int32_t is_penalised;  // else the slot's seen tokens are not looked at
  float presence_penalty;
  float frequency_penalty;
  float repetition_penalty;
};

// A row to be chosen from, after its changes.
struct ShapedRow {
  uint64_t seed;
  int32_t position;   // absolute index of the token being chosen
  float temperature;  // < 1e-5: greedy
  int32_t row;        // of the logits and of `tokens`
  int32_t slot;       // of the sequence
  // First word of its bits in EditLogitsParams::allowed; -1: all ids are.
  // Bit id % 32 of word id / 32; ids beyond the last word are not allowed.
  int32_t first_allowed;
  int32_t num_allowed_words;
  int32_t top_k;  // 0: off
  float top_p;    // 1: off
  float min_p;    // 0: off
  int32_t unused;
};

struct LogprobRow {
  int32_t row;      // of the logits and of `tokens`
  int32_t num_top;  // [0, kMaxTopLogprobs]
};

// Natural logarithms of the model's own probabilities, before any change.
struct TokenLogprobs {
  float logprob;  // of the chosen token
  int32_t rank;   // 1: the likeliest
  // By (logprob descending, id ascending); -1: there are no more.
  int32_t top_ids[kMaxTopLogprobs];
  float top_logprobs[kMaxTopLogprobs];
};

// Of one slot: `count` entries follow, each id once.
struct SeenHeader {
  int32_t count;
  int32_t unused;
};
static_assert(sizeof(SeenHeader) == sizeof(SeenToken));

// Changes to rows of logits, which may be those of a shard of the vocabulary:
// ids of other shards are passed over, so that all together edit the whole row.
// A shard's ids that are not allowed become -infinity, too, as what chooses
// from it does not look at those bits; and masks wait for MaskLogitsParams. All
// arrays are device memory, here and below.
struct EditLogitsParams {
  float* logits;      // [any, num_vocab]
  int32_t num_vocab;  // columns; may be 0
  int32_t first_id;   // token id of column 0
  // Of a shard, out: whether an id of it that the edit does not mask could be
  // chosen, or 0 of edits without masks. Null: the rows are whole.
  int32_t* has_others;  // [num_edits]
  int32_t num_edits;
  const EditRow* edits;
  const TokenBias* biases;  // of a row: each id once
  const int32_t* masked;
  const uint32_t* allowed;
  // [slots, seen_stride], a SeenHeader first. The chosen token of a penalised
  // row is counted. REQUIRES: room for one more.
  SeenToken* seen;
  int64_t seen_stride;
  float* saved;
  int32_t* tokens;  // [any] by row
};

// The masks of a shard's edits, once all shards are edited and have heard what
// others have.
struct MaskLogitsParams : EditLogitsParams {
  const int32_t* heard;  // [num_shards, num_edits] has_others of all shards
  int32_t num_shards;
};

// A row may be edited, is chosen from once at most, and may have its log
// probabilities taken whoever chose its token. `logits` are whole rows, of
// which edited ones hold anything afterwards. `tokens` are out, or a
// ChoiceError; in for log probabilities of rows chosen before.
struct ShapedChoiceParams : EditLogitsParams {
  // Rows without filters first: greedy, or top_k, top_p and min_p off.
  const ShapedRow* rows;
  int32_t num_unfiltered;
  int32_t num_filtered;
  bool all_have_top_k;             // of the filtered ones; false if not known
  const LogprobRow* logprob_rows;  // [num_logprobs]
  TokenLogprobs* logprobs;         // [num_logprobs] out
  int32_t num_logprobs;
  int32_t* by_slot;  // [slots] out: the token again
};

}  // namespace quire

#endif  // KERNELS_SHAPED_CHOICE_H_
