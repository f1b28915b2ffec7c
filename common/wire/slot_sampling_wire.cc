// SPDX-License-Identifier: Apache-2.0
#include "common/wire/slot_sampling_wire.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace quire {
namespace {

using Uint32Field = google::protobuf::RepeatedField<uint32_t>;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "words of bits travel as their bytes");

constexpr uint32_t kMaxInt = std::numeric_limits<int32_t>::max();
// Ids of the widest logits in use take a fiftieth of this.
constexpr uint32_t kMaxMaskedId = 1u << 24;

absl::Status FieldError(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("admitted.sampling.", field, ": ", what));
}

absl::Status DecodeIds(absl::string_view field, const Uint32Field& from,
                       std::vector<TokenId>* to) {
  to->clear();
  for (const uint32_t id : from) {
    if (id > kMaxInt) {
      return FieldError(field, absl::StrCat(id, " is above 2^31 - 1"));
    }
    to->push_back(static_cast<TokenId>(id));
  }
  return absl::OkStatus();
}

void EncodeIds(const std::vector<TokenId>& from, Uint32Field* to) {
  for (TokenId id : from) to->Add(static_cast<uint32_t>(id));
}

absl::Status CheckAscending(absl::string_view field, const Uint32Field& ids) {
  for (int i = 1; i < ids.size(); ++i) {
    if (ids[i - 1] >= ids[i]) {
      return FieldError(field, absl::StrCat(ids[i], " follows ", ids[i - 1]));
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeBiases(const v1::SlotSampling& from, SlotSampling* to) {
  if (from.bias_token_ids_size() != from.biases_size()) {
    return FieldError("biases",
                      absl::StrCat(from.biases_size(), " for ",
                                   from.bias_token_ids_size(), " tokens"));
  }
  QUIRE_RETURN_IF_ERROR(
      CheckAscending("bias_token_ids", from.bias_token_ids()));
  to->logit_bias.clear();
  for (int i = 0; i < from.biases_size(); ++i) {
    if (from.bias_token_ids(i) > kMaxInt || !std::isfinite(from.biases(i))) {
      return FieldError("biases",
                        absl::StrCat("token ", from.bias_token_ids(i),
                                     " is biased by ", from.biases(i)));
    }
    to->logit_bias.push_back(
        {static_cast<TokenId>(from.bias_token_ids(i)), from.biases(i)});
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const SlotSampling& sampling) {
  const auto require = [](bool ok, absl::string_view field, double value) {
    return ok ? absl::OkStatus()
              : FieldError(field, absl::StrCat(value, " is out of range"));
  };
  // Written so that a NaN fails.
  QUIRE_RETURN_IF_ERROR(
      require(sampling.temperature >= 0 && std::isfinite(sampling.temperature),
              "temperature", sampling.temperature));
  QUIRE_RETURN_IF_ERROR(require(sampling.top_p > 0 && sampling.top_p <= 1,
                                "top_p", sampling.top_p));
  QUIRE_RETURN_IF_ERROR(require(sampling.top_k >= 0, "top_k", sampling.top_k));
  QUIRE_RETURN_IF_ERROR(require(sampling.min_p >= 0 && sampling.min_p <= 1,
                                "min_p", sampling.min_p));
  QUIRE_RETURN_IF_ERROR(require(std::isfinite(sampling.presence_penalty),
                                "presence_penalty", sampling.presence_penalty));
  QUIRE_RETURN_IF_ERROR(require(std::isfinite(sampling.frequency_penalty),
                                "frequency_penalty",
                                sampling.frequency_penalty));
  QUIRE_RETURN_IF_ERROR(require(sampling.repetition_penalty > 0 &&
                                    std::isfinite(sampling.repetition_penalty),
                                "repetition_penalty",
                                sampling.repetition_penalty));
  QUIRE_RETURN_IF_ERROR(
      require(sampling.min_tokens >= 0, "min_tokens", sampling.min_tokens));
  QUIRE_RETURN_IF_ERROR(
      require(sampling.num_prompt_logprobs >= -1 &&
                  sampling.num_prompt_logprobs <= kMaxSlotLogprobs,
              "prompt_logprobs_plus_one", sampling.num_prompt_logprobs + 1.0));
  return require(
      sampling.num_logprobs >= -1 && sampling.num_logprobs <= kMaxSlotLogprobs,
      "num_logprobs", sampling.num_logprobs);
}

}  // namespace

void EncodeSlotSampling(const SlotSampling& from, v1::SlotSampling* to) {
  to->set_temperature(from.temperature);
  to->set_top_p(from.top_p);
  to->set_top_k(from.top_k);
  to->set_min_p(from.min_p);
  to->set_presence_penalty(from.presence_penalty);
  to->set_frequency_penalty(from.frequency_penalty);
  to->set_repetition_penalty(from.repetition_penalty);
  to->set_seed(from.seed);
  to->set_min_tokens(static_cast<uint32_t>(from.min_tokens));
  EncodeIds(from.stop_token_ids, to->mutable_stop_token_ids());
  to->set_num_logprobs(from.num_logprobs);
  for (const TokenBias& bias : from.logit_bias) {
    to->add_bias_token_ids(static_cast<uint32_t>(bias.token_id));
    to->add_biases(bias.bias);
  }
  for (const std::vector<TokenId>& word : from.bad_words) {
    EncodeIds(word, to->add_bad_words()->mutable_token_ids());
  }
  EncodeIds(from.allowed_token_ids, to->mutable_allowed_token_ids());
  to->set_needs_mask(from.needs_mask);
  to->set_prompt_logprobs_plus_one(
      static_cast<uint32_t>(from.num_prompt_logprobs + 1));
}

absl::Status DecodeSlotSampling(const v1::SlotSampling& from,
                                SlotSampling* to) {
  to->temperature = from.temperature();
  to->top_p = from.top_p();
  to->top_k = from.top_k();
  to->min_p = from.min_p();
  to->presence_penalty = from.presence_penalty();
  to->frequency_penalty = from.frequency_penalty();
  to->repetition_penalty = from.repetition_penalty();
  to->seed = from.seed();
  to->min_tokens = static_cast<int32_t>(from.min_tokens());
  QUIRE_RETURN_IF_ERROR(
      DecodeIds("stop_token_ids", from.stop_token_ids(), &to->stop_token_ids));
  to->num_logprobs = from.num_logprobs();
  QUIRE_RETURN_IF_ERROR(DecodeBiases(from, to));
  to->bad_words.resize(from.bad_words_size());
  for (int i = 0; i < from.bad_words_size(); ++i) {
    QUIRE_RETURN_IF_ERROR(DecodeIds("bad_words", from.bad_words(i).token_ids(),
                                    &to->bad_words[i]));
    if (to->bad_words[i].empty()) {
      return FieldError("bad_words", "one has no tokens");
    }
  }
  QUIRE_RETURN_IF_ERROR(
      CheckAscending("allowed_token_ids", from.allowed_token_ids()));
  QUIRE_RETURN_IF_ERROR(DecodeIds("allowed_token_ids", from.allowed_token_ids(),
                                  &to->allowed_token_ids));
  to->needs_mask = from.needs_mask();
  to->num_prompt_logprobs =
      static_cast<int32_t>(from.prompt_logprobs_plus_one()) - 1;
  return CheckNumbers(*to);
}

void EncodeSlotMask(const SlotMask& from, v1::SlotMask* to) {
  to->set_slot(static_cast<uint32_t>(from.slot.value()));
  size_t num_allowed = 0;
  for (const uint32_t word : from.words) num_allowed += std::popcount(word);
  // An id takes up to three bytes, a word four.
  if (num_allowed >= from.words.size()) {
    to->set_allowed_bits(from.words.data(),
                         from.words.size() * sizeof(uint32_t));
    return;
  }
  for (size_t i = 0; i < from.words.size(); ++i) {
    for (uint32_t word = from.words[i]; word != 0; word &= word - 1) {
      to->add_allowed_token_ids(
          static_cast<uint32_t>(32 * i + std::countr_zero(word)));
    }
  }
}

absl::Status DecodeSlotMask(const v1::SlotMask& from, SlotMask* to) {
  const auto error = [](auto... what) {
    return absl::InvalidArgumentError(absl::StrCat("masks.", what...));
  };
  if (from.slot() > kMaxInt) {
    return error("slot: ", from.slot(), " is above 2^31 - 1");
  }
  to->slot = SlotId(static_cast<int32_t>(from.slot()));
  const std::string& bits = from.allowed_bits();
  if (bits.size() % sizeof(uint32_t) != 0) {
    return error("allowed_bits: ", bits.size(), " bytes are not whole words");
  }
  to->words.assign(bits.size() / sizeof(uint32_t), 0);
  if (!bits.empty()) std::memcpy(to->words.data(), bits.data(), bits.size());
  for (const uint32_t id : from.allowed_token_ids()) {
    if (id >= kMaxMaskedId) {
      return error("allowed_token_ids: ", id, " is above ", kMaxMaskedId - 1);
    }
    if (id / 32 >= to->words.size()) to->words.resize(id / 32 + 1, 0);
    to->words[id / 32] |= uint32_t{1} << (id % 32);
  }
  for (const uint32_t word : to->words) {
    if (word != 0) return absl::OkStatus();
  }
  return error("allowed_bits: slot ", from.slot(), " may sample no token");
}

}  // namespace quire
