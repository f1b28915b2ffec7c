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

#include "common/ids.h"

namespace quire {

// What a rank needs to choose a sequence's tokens. Travels in step plans.
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
  int32_t num_logprobs = -1;  // -1: none, else [0, 20] besides the sampled one

  friend bool operator==(const SlotSampling&, const SlotSampling&) = default;
};

struct SamplingParams {
  SlotSampling slot;
  // Ids that end the output; the model's own end-of-sequence ids are among
  // them unless ignore_eos was asked for.
  std::vector<TokenId> stop_token_ids;
  int32_t max_tokens = 16;        // >= 1, prompt + max_tokens <= max_model_len
  std::vector<std::string> stop;  // at most 16, none empty; the gateway's
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
};

}  // namespace quire

#endif  // COMMON_SAMPLING_PARAMS_H_
