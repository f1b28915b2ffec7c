// SPDX-License-Identifier: Apache-2.0
//
// Tokens of rows that top_p or min_p cut, and top_k does not, from shards of
// the vocabulary whose logits stay where they are. Shards tell each other their
// largest logit, then in three rounds how much probability lies how far below
// the largest of all, each round 256 times finer than the one before; so all
// know where the nucleus ends (a radix selection by probability in place of the
// sort that Holtzman et al., "The Curious Case of Neural Text Degeneration",
// section 3.1, asks for). Each then draws from what it has of the nucleus, and
// the best of all draws is the token.
//
// Depths are counted in steps of 2^-19 nats below the largest logit: of equal
// ones the lower ids are in the nucleus. Sums are of integers, so the token
// depends neither on how the vocabulary is cut nor on other rows. It is the one
// of a sort in full precision unless a sum there would have to differ by 2e-6
// of itself at most, which is what a step changes a weight by, or the nucleus
// ends between tokens that lie within a step. What lies 32 nats below the
// largest logit is not in the nucleus.
#ifndef KERNELS_NUCLEUS_CHOICE_H_
#define KERNELS_NUCLEUS_CHOICE_H_

#include <cstdint>

#include "kernels/listed_choice.h"
#include "kernels/shaped_choice.h"

namespace quire {

// In this order. Between two, every shard hears what all have said of all rows.
enum class NucleusStage : int32_t {
  kLargest,  // says a float: the largest logit as it is, NaN if one is NaN or
             // +infinity
  kEighths,  // says kNucleusBins of 1/8 nat each
  kMiddle,   // the same within the eighth where the nucleus ends
  kSteps,    // and within one of those
  kDraw,     // says a ListedToken: the best of the shard's nucleus with its
             // noise; its id is -1 if there is none
  kToken,    // says nothing; writes the tokens
};
inline constexpr int32_t kNumNucleusStages = 6;

inline constexpr int32_t kNucleusBins = 256;
inline constexpr int32_t kNucleusStepBits = 24;
inline constexpr float kStepsPerNat = 1 << 19;

// The weights of some tokens added up: high * 2^31 + low. A token weighs 2^31 *
// exp(eighths / 8 - depth) where `eighths` are its depth's whole ones.
struct NucleusBin {
  uint32_t low, high;  // without their highest bit
};

// What a row has come to; all shards hold the same.
struct NucleusState {
  float max;         // the largest logit
  int32_t error;     // a ChoiceError, or 0
  uint32_t prefix;   // of the depth where the nucleus ends, as far as known
  int32_t num_ties;  // of all shards, that are in it at just that depth
  double above;      // weight at smaller depths than the prefix covers
  double needed;     // that the nucleus is to reach
};

// Of one row, that is said in a stage.
constexpr int64_t NucleusBytes(NucleusStage stage) {
  switch (stage) {
    case NucleusStage::kLargest:
      return sizeof(float);
    case NucleusStage::kDraw:
      return sizeof(ListedToken);
    case NucleusStage::kToken:
      return 0;
    default:
      return kNucleusBins * int64_t{sizeof(NucleusBin)};
  }
}

// All arrays are device memory.
struct NucleusParams {
  NucleusStage stage;
  const float* logits;  // [any, num_vocab]
  int32_t num_vocab;    // columns of the shard; may be 0
  int32_t first_id;     // token id of column 0
  int32_t shard;        // [0, num_shards), in the order of ids
  int32_t num_shards;   // at least 1
  // Not greedy, without top_k; all ids are allowed.
  const ShapedRow* rows;  // [num_rows]
  int32_t num_rows;
  NucleusState* states;  // [kNumNucleusStages, num_rows], this shard's own
  // [num_shards, num_rows] of the stage before; kLargest does not read it.
  const void* heard;
  void* said;        // [num_rows] out
  int32_t* tokens;   // [any] by row: out in kToken, or a ChoiceError
  int32_t* by_slot;  // [slots] out: the token again
};

}  // namespace quire

#endif  // KERNELS_NUCLEUS_CHOICE_H_
