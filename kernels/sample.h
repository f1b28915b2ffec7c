// SPDX-License-Identifier: Apache-2.0
//
// One rank's share of choosing tokens: reduces its shard of the logits to a
// few numbers a row, which the ranks exchange instead of logits.
//
// Randomness is a pure function: Gumbel noise for a token is Philox4x32-10
// (Salmon et al., SC'11) with key = the row's seed and counter = (token id / 4,
// position, 0, 0), output word token id % 4. Argmax of logit / temperature +
// noise over the kept tokens is a sample of the softmax over them, and neither
// the batch nor the number of ranks enters.
//
// What a row asks for is applied to each column's raw logit x in this order,
// vLLM's, in float:
//   1. allowed bits and masked ids: the column is -infinity, whatever follows
//   2. bias:                x += bias
//   3. repetition penalty:  x = x > 0 ? x / p : x * p      if the token is seen
//   4. frequency penalty:   x -= p * output_count          if it is seen
//   5. presence penalty:    x -= p                         if output_count > 0
//   6. temperature:         x /= temperature               unless greedy
// min_p, top_k and top_p come after and are the merge's (worker/sampler).
#ifndef KERNELS_SAMPLE_H_
#define KERNELS_SAMPLE_H_

#include <cstdint>

#include "common/token_bias.h"

namespace quire {

// A token that the sequence has seen, for penalties.
struct SeenToken {
  int32_t token_id;
  int32_t output_count;  // 0: in the prompt only
};

struct SampleRow {
  uint64_t seed;
  int64_t
      position;  // absolute index of the token being chosen, prompt included
  float temperature;  // < 1e-5: greedy
  float presence_penalty;
  float frequency_penalty;
  float repetition_penalty;
  const SeenToken* seen;  // [num_seen], or null when no penalty is set
  const int32_t* masked;  // [num_masked] ids that may not be chosen
  int32_t num_seen;
  int32_t num_masked;
  const TokenBias* biases;  // [num_biases] ascending ids, each once
  // Bit id % 32 of word id / 32 says whether a token may be chosen; ids of
  // words beyond the last may not be. Null: all may be.
  const uint32_t* allowed;  // [num_allowed_words]
  int32_t num_biases;
  int32_t num_allowed_words;
  // If is_scored is not 0, what the summary tells of the raw logits besides.
  int32_t is_scored;
  int32_t scored_id;
  float count_above;
  // If not 0, nobody reads the row's candidates: they need not be written.
  int32_t skips_candidates;
};

struct Candidate {
  float logit;      // after penalties and masks, divided by temperature
  float raw_logit;  // as the model gave it
  int32_t token_id;
};

// What a shard says of one row. Sums are relative to their own maximum; a sum
// is 0 where the maximum is -infinity. If a raw logit is NaN or +infinity,
// raw_max is NaN and nothing else holds: the row must not be sampled.
struct ShardSummary {
  float raw_max;
  float raw_sum;     // sum of exp(raw - raw_max)
  float max;         // of logits after penalties, masks and temperature
  float sum;         // sum of exp(logit - max)
  float best_noisy;  // largest logit + Gumbel noise (greedy: largest logit)
  int32_t best_token_id;  // whose it is; the lowest id on a tie; -1: none
  float best_raw_logit;   // its raw logit
  // If the row is_scored, of the raw logits: that of scored_id, -infinity if it
  // is not of this shard; and how many are above count_above. Else anything.
  float scored_logit;
  int32_t num_above;
};

// Rows, their lists, summaries and candidates are host memory on every device,
// and the results are there when the call returns.
struct SampleShardParams {
  const float* logits;  // [num_rows, num_vocab], device memory
  int32_t first_id;     // token id of column 0
  int32_t num_vocab;    // columns; padding beyond the vocabulary excluded
  int32_t num_rows;
  const SampleRow* rows;    // [num_rows]
  ShardSummary* summaries;  // [num_rows] out
  // The largest `num_candidates` columns of each row by (logit descending, id
  // ascending) that are not -infinity; missing ones have token_id -1.
  // num_candidates may be 0.
  Candidate* candidates;  // [num_rows, num_candidates] out
  int32_t num_candidates;
};

// A row whose token needs neither candidates, penalties nor masks, nor other
// ranks: the device chooses alone.
struct ChoiceRow {
  uint64_t seed;
  int32_t position;   // absolute index of the token being chosen
  float temperature;  // < 1e-5: greedy
  int32_t slot;       // of the sequence; negative: padding, nothing is chosen
  int32_t unused;
};

// What is written in place of a token that cannot be chosen.
enum ChoiceError : int32_t {
  kNoToken = -1,          // all logits are -infinity
  kLogitsNotFinite = -2,  // a logit is NaN or +infinity
  kLogitsOverflow = -3,   // a logit is infinite at this temperature
};

// What a shard of the vocabulary says of a row that the device chooses. The
// sign of a zero does not matter, so that ranks may lose it on the way.
struct ShardChoice {
  float best;        // largest logit + noise (greedy: largest logit), scaled
  int32_t token_id;  // whose it is; the lowest id on a tie; -1: none
  float max;         // largest logit / temperature
  int32_t is_bad;    // 1: a logit is NaN or +infinity
};

// The same token as SampleShard's best_token_id. All arrays are device memory.
struct ChooseTokensParams {
  const float* logits;    // [num_rows, num_vocab]
  const ChoiceRow* rows;  // [num_rows]
  int32_t* tokens;        // [num_rows] out, or a ChoiceError
  int32_t* by_slot;       // [slots] out: the token again, at its row's slot
  int32_t num_vocab;
  int32_t num_rows;
  // Of a shard among others: the token id of column 0, and what it says of each
  // row, in place of tokens and by_slot. Rows of padding are not written.
  int32_t first_id = 0;
  ShardChoice* choices = nullptr;  // [num_rows] out
};

// From the shards' choices, in the order of their ids, to tokens: the same as
// of the whole vocabulary in one. All arrays are device memory.
struct MergeChoicesParams {
  const ShardChoice* choices;  // [num_shards, num_rows]
  const ChoiceRow* rows;       // [num_rows]
  int32_t* tokens;             // [num_rows] out, or a ChoiceError
  int32_t* by_slot;            // [slots] out
  int32_t num_shards;
  int32_t num_rows;
};

// The token of one row, whose choices are `stride` apart.
constexpr int32_t MergedToken(const ShardChoice* choices, int32_t num_shards,
                              int64_t stride) {
  ShardChoice best = choices[0];
  for (int32_t shard = 1; shard < num_shards; ++shard) {
    const ShardChoice& other = choices[shard * stride];
    best.is_bad |= other.is_bad;
    if (other.max > best.max) best.max = other.max;
    if (other.token_id >= 0 && (best.token_id < 0 || other.best > best.best)) {
      best.best = other.best;
      best.token_id = other.token_id;
    }
  }
  if (best.is_bad != 0) return kLogitsNotFinite;
  if (best.max > 3.402823466e38f) return kLogitsOverflow;
  return best.token_id < 0 ? int32_t{kNoToken} : best.token_id;
}

}  // namespace quire

#endif  // KERNELS_SAMPLE_H_
