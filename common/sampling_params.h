// SPDX-License-Identifier: Apache-2.0
//
// How a request wants its tokens chosen: quire.v1.SamplingParams with defaults
// applied and ranges checked (coordinator/gateway/validation does both). Names
// and ranges are vLLM's.
#ifndef COMMON_SAMPLING_PARAMS_H_
#define COMMON_SAMPLING_PARAMS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/ids.h"
#include "common/token_bias.h"

namespace quire {

// What a rank needs to choose a sequence's tokens. Travels in step plans when
// the sequence takes a slot. Ids are below the logits' width.
struct SlotSampling {
  float temperature = 1;         // [0, 2]; < 1e-5 is greedy
  float top_p = 1;               // (0, 1]
  int32_t top_k = 0;             // 0: off
  float min_p = 0;               // [0, 1]
  float presence_penalty = 0;    // [-2, 2]
  float frequency_penalty = 0;   // [-2, 2]
  float repetition_penalty = 1;  // > 0
  uint64_t seed = 0;
  int32_t min_tokens = 0;  // output tokens before a stop token may be chosen
  // Masked until min_tokens: end-of-sequence and stop ids.
  std::vector<TokenId> stop_token_ids;
  // -1: none, else [0, kMaxSlotLogprobs] besides the sampled one.
  int32_t num_logprobs = -1;
  std::vector<TokenBias> logit_bias;  // ascending ids, each once
  // None empty. When a sequence's output ends with all of one but its last
  // token, that one is masked.
  std::vector<std::vector<TokenId>> bad_words;
  std::vector<TokenId> allowed_token_ids;  // ascending; empty: all
  // Every step in which it samples brings a SlotMask (common/step_plan.h), so
  // it must not run ahead of its tokens. allowed_token_ids is empty then: the
  // mask holds what of them is allowed.
  bool needs_mask = false;
  // -1: none, else [0, kMaxSlotLogprobs] besides the token's own, of each
  // prompt token but the first.
  int32_t num_prompt_logprobs = -1;

  friend bool operator==(const SlotSampling&, const SlotSampling&) = default;
};

// Requests may ask for 20; a beam of width 16 looks at twice its width.
inline constexpr int32_t kMaxSlotLogprobs = 32;
inline constexpr int32_t kMaxBeamWidth = 16;
inline constexpr int32_t kMaxSequencesPerGroup = 16;

// When a beam search ends, as Hugging Face's generate() defines it.
enum class EarlyStopping {
  kFalse,  // when no running beam is likely to beat the worst finished one
  kTrue,   // as soon as there are beam_width finished ones
  kNever,  // when none can, whatever the length penalty
};

// Seed of the index-th sequence of a request: the request's own for the first,
// so that a request for one sequence does not depend on this.
constexpr uint64_t SequenceSeed(uint64_t request_seed, int32_t index) {
  return index == 0 ? request_seed
                    : MixBits(request_seed + MixBits(uint64_t(index)));
}

struct SamplingParams {
  SlotSampling slot;
  // Sequences returned, and sampled to choose them from by cumulative log
  // probability: 1 <= n <= best_of <= kMaxSequencesPerGroup. The i-th samples
  // with SequenceSeed(slot.seed, i).
  int32_t n = 1;
  int32_t best_of = 1;
  // 0: sampling. Else [2, kMaxBeamWidth]: beam search; n <= beam_width.
  int32_t beam_width = 0;
  float length_penalty = 1;
  EarlyStopping early_stopping = EarlyStopping::kFalse;
  // Ids that end the output; the model's own end-of-sequence ids are among
  // them unless ignore_eos was asked for.
  std::vector<TokenId> stop_token_ids;
  int32_t max_tokens = 16;        // >= 1, prompt + max_tokens <= max_model_len
  std::vector<std::string> stop;  // at most 16, none empty; the gateway's
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  bool echo = false;  // the gateway's, as the two above
};

}  // namespace quire

#endif  // COMMON_SAMPLING_PARAMS_H_
