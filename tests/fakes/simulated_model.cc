// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/simulated_model.h"

#include <algorithm>

#include "common/digest.h"

namespace quire {
namespace {

bool Contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

uint64_t Extend(uint64_t prefix, TokenId token) {
  return MixBits(prefix ^ static_cast<uint32_t>(token)) | 1;
}

TokenId SimulatedToken(uint64_t prefix, const SlotSampling& sampling,
                       int32_t num_tokens, int32_t num_outputs) {
  uint64_t draw = MixBits(prefix ^ MixBits(sampling.seed + num_tokens));
  const bool mask = num_outputs < sampling.min_tokens;
  while (mask && Contains(sampling.stop_token_ids,
                          static_cast<TokenId>(draw % kSimulatedVocabSize))) {
    draw = MixBits(draw);
  }
  return static_cast<TokenId>(draw % kSimulatedVocabSize);
}

TokenId FirstAllowed(const std::vector<uint32_t>& mask, TokenId token) {
  for (TokenId i = 0; i < kSimulatedVocabSize; ++i) {
    const TokenId id = (token + i) % kSimulatedVocabSize;
    const size_t word = id / 32;
    if (word < mask.size() && (mask[word] >> (id % 32) & 1) != 0) return id;
  }
  return -1;
}

// Ids are drawn until `num_top` differ, each less likely than the one before by
// up to a half: close enough for beams to change places.
std::vector<TopLogprob> TopOfPrefix(uint64_t prefix, int32_t num_top) {
  std::vector<TopLogprob> top;
  float logprob = -0.5f;
  for (uint64_t draw = MixBits(prefix); static_cast<int32_t>(top.size()) <
                                        std::min(num_top, kSimulatedVocabSize);
       draw = MixBits(draw)) {
    const TokenId token = static_cast<TokenId>(draw % kSimulatedVocabSize);
    const bool is_known = std::any_of(
        top.begin(), top.end(),
        [token](const TopLogprob& other) { return other.token_id == token; });
    if (is_known) continue;
    top.push_back({token, logprob});
    logprob -= 0.001f + static_cast<float>(draw >> 40) * 0x1p-25f;
  }
  return top;
}

std::vector<TopLogprob> SimulatedTop(const std::vector<TokenId>& tokens,
                                     int32_t num_top) {
  uint64_t prefix = kEmptyPrefix;
  for (TokenId token : tokens) prefix = Extend(prefix, token);
  return TopOfPrefix(prefix, num_top);
}

std::vector<TokenId> SimulatedStream(const std::vector<TokenId>& prompt,
                                     const SamplingParams& sampling,
                                     const MaskRule& rule) {
  uint64_t prefix = kEmptyPrefix;
  for (TokenId token : prompt) prefix = Extend(prefix, token);
  std::vector<TokenId> outputs;
  while (static_cast<int32_t>(outputs.size()) < sampling.max_tokens) {
    const int32_t num_outputs = static_cast<int32_t>(outputs.size());
    TokenId token = SimulatedToken(
        prefix, sampling.slot,
        static_cast<int32_t>(prompt.size()) + num_outputs, num_outputs);
    if (rule != nullptr) token = FirstAllowed(rule(outputs), token);
    outputs.push_back(token);
    prefix = Extend(prefix, token);
    if (num_outputs >= sampling.slot.min_tokens &&
        Contains(sampling.stop_token_ids, token)) {
      break;
    }
  }
  return outputs;
}

}  // namespace quire
