// SPDX-License-Identifier: Apache-2.0
//
// A model without weights: what follows a prefix of tokens is a hash of it, so
// that what a stream must be is known without running it.
#ifndef TESTS_FAKES_SIMULATED_MODEL_H_
#define TESTS_FAKES_SIMULATED_MODEL_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"

namespace quire {

inline constexpr int32_t kSimulatedVocabSize = 1000;

// What may follow so many outputs, as a SlotMask's words.
using MaskRule =
    std::function<std::vector<uint32_t>(const std::vector<TokenId>& outputs)>;

// What a group must generate for this request: outputs up to and including the
// token that stops it. Undisturbed by construction.
std::vector<TokenId> SimulatedStream(const std::vector<TokenId>& prompt,
                                     const SamplingParams& sampling,
                                     const MaskRule& rule = nullptr);

// What a group reports as the `num_top` likeliest tokens after `tokens`, by
// (log probability descending, id ascending). Neither seed nor the group's
// past enters.
std::vector<TopLogprob> SimulatedTop(const std::vector<TokenId>& tokens,
                                     int32_t num_top);

// The same by steps, of a prefix that is known by its hash.
inline constexpr uint64_t kEmptyPrefix = 0x5175697265u;
// What a prefix comes to when `token` joins it. Never 0.
uint64_t Extend(uint64_t prefix, TokenId token);
// The token that follows `num_tokens` tokens hashed as `prefix`.
TokenId SimulatedToken(uint64_t prefix, const SlotSampling& sampling,
                       int32_t num_tokens, int32_t num_outputs);
// `token`, or the next that the mask allows; -1 if it allows none.
TokenId FirstAllowed(const std::vector<uint32_t>& mask, TokenId token);
// SimulatedTop() of a prefix.
std::vector<TopLogprob> TopOfPrefix(uint64_t prefix, int32_t num_top);

}  // namespace quire

#endif  // TESTS_FAKES_SIMULATED_MODEL_H_
