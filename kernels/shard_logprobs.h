// SPDX-License-Identifier: Apache-2.0
//
// Log probabilities of chosen tokens from shards of the vocabulary whose logits
// stay where they are. The shard that has the chosen token tells the others its
// logit; then each reads its logits once, and says what exponents they sum up
// to, how many are above that logit, and which are its largest. From that all
// shards come to the same log probabilities: those of the whole row
// (kernels/shaped_choice.h) but for the order in which floats are added.
#ifndef KERNELS_SHARD_LOGPROBS_H_
#define KERNELS_SHARD_LOGPROBS_H_

#include <cstdint>

#include "kernels/listed_choice.h"
#include "kernels/shaped_choice.h"

namespace quire {

// In this order. After the first two, every shard hears what all have said.
enum class LogprobStage : int32_t {
  kChosen,    // says a float: the chosen token's logit, -infinity if it is
              // another shard's; not -0
  kSums,      // says a LogprobShard and the shard's largest tokens
  kLogprobs,  // says nothing; writes the log probabilities
};
inline constexpr int32_t kNumLogprobStages = 3;

// What a shard says of a row's logits. num_top tokens follow, its largest in
// any order; token_id -1: there are no more.
struct LogprobShard {
  float max;  // the largest; -infinity if there is none, not -0
  // The sum of exp(logit - max), in double precision: as a float, and what that
  // lacks. A double's lower word might be a zero's sign, which ranks may lose.
  float sum, rest;
  int32_t num_above;  // that are larger than the chosen token's
};
static_assert(sizeof(LogprobShard) == 2 * sizeof(ListedToken));

// Of one row, that is said in a stage.
constexpr int64_t LogprobBytes(LogprobStage stage, int32_t max_top) {
  switch (stage) {
    case LogprobStage::kChosen:
      return sizeof(float);
    case LogprobStage::kSums:
      return sizeof(LogprobShard) + max_top * int64_t{sizeof(ListedToken)};
    default:
      return 0;
  }
}

// All arrays are device memory.
struct ShardLogprobsParams {
  LogprobStage stage;
  const float* logits;     // [any, num_vocab], the model's own
  int32_t num_vocab;       // columns of the shard; may be 0
  int32_t first_id;        // token id of column 0
  int32_t num_shards;      // at least 1
  const LogprobRow* rows;  // [num_rows]
  int32_t num_rows;
  int32_t max_top;  // largest num_top of the rows
  // [any] by row. Rows whose token is a ChoiceError get anything.
  const int32_t* tokens;
  const float* chosen;  // [num_shards, num_rows] that kChosen said
  const ListedToken*
      sums;    // [num_shards, num_rows, 2 + max_top] that kSums did
  void* said;  // [num_rows] out, of the stage
  TokenLogprobs* logprobs;  // [num_rows] out, in kLogprobs
};

}  // namespace quire

#endif  // KERNELS_SHARD_LOGPROBS_H_
