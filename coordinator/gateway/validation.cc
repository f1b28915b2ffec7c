// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/validation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "common/wire/error_details.h"
#include "coordinator/gateway/violations.h"

namespace quire {
namespace {

constexpr int kMaxNameBytes = 128;  // of a request or a tenant
constexpr int kMaxSaltBytes = 1024;
constexpr int kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr uint32_t kMaxStopTokenIds = 1024;
constexpr float kGreedyBelow = 1e-5f;  // temperature, as vLLM

bool IsWithin(float value, float least, float most) {
  return value >= least && value <= most;  // false for NaN
}

void CheckName(const std::string& field, const std::string& value,
               Violations* violations) {
  if (value.size() > kMaxNameBytes) {
    violations->Add(field, absl::StrCat(field, " has ", value.size(),
                                        " characters; it may have at most ",
                                        kMaxNameBytes));
    return;
  }
  for (const char c : value) {
    if (c >= 0x20 && c <= 0x7e) continue;
    violations->Add(field,
                    absl::StrCat(field,
                                 " has a character that is not printable "
                                 "ASCII; use letters, digits and dashes"));
    return;
  }
}

void ReadService(const v1::GenerateRequest& request, ValidatedRequest* valid,
                 Violations* violations) {
  CheckName("request_id", request.request_id(), violations);
  valid->request_id = request.request_id();
  CheckName("tenant", request.tenant(), violations);
  valid->tenant = request.tenant();
  valid->priority = request.priority();
  valid->use_prefix_cache =
      !request.has_use_prefix_cache() || request.use_prefix_cache();
  if (request.cache_salt().size() > kMaxSaltBytes) {
    violations->Add(
        "cache_salt",
        absl::StrCat("cache_salt has ", request.cache_salt().size(),
                     " bytes; it may have at most ", kMaxSaltBytes));
  }
  valid->cache_salt = request.cache_salt();
}

// How many sequences are sampled, and returned.
void ReadSequences(const v1::SamplingParams& params, SamplingParams* sampling,
                   Violations* violations) {
  const uint32_t n = params.has_n() ? params.n() : 1;
  violations->CheckRange("n", n, n >= 1 && n <= kMaxSequencesPerGroup,
                         absl::StrCat("1 to ", kMaxSequencesPerGroup));
  const uint32_t best_of = params.has_best_of() ? params.best_of() : n;
  if (params.has_best_of() &&
      (best_of > kMaxSequencesPerGroup || best_of < n)) {
    violations->Add(
        "sampling.best_of",
        absl::StrCat("best_of=", best_of, " is out of range; it must be n=", n,
                     " to ", kMaxSequencesPerGroup,
                     ", or unset to return all n"));
  }
  sampling->n = static_cast<int32_t>(std::min<uint32_t>(n, 16));
  sampling->best_of = static_cast<int32_t>(std::min<uint32_t>(best_of, 16));
}

void ReadBeams(const v1::SamplingParams& params, SamplingParams* sampling,
               Violations* violations) {
  const uint32_t width = params.has_beam_width() ? params.beam_width() : 0;
  violations->CheckRange("beam_width", width,
                         width == 0 || (width >= 2 && width <= kMaxBeamWidth),
                         "2 to 16, or 0 for no beam search");
  sampling->length_penalty =
      params.has_length_penalty() ? params.length_penalty() : 1;
  violations->CheckRange("length_penalty", sampling->length_penalty,
                         std::isfinite(sampling->length_penalty), "finite");
  switch (params.early_stopping()) {
    case v1::EARLY_STOPPING_TRUE:
      sampling->early_stopping = EarlyStopping::kTrue;
      break;
    case v1::EARLY_STOPPING_NEVER:
      sampling->early_stopping = EarlyStopping::kNever;
      break;
    case v1::EARLY_STOPPING_UNSPECIFIED:
    case v1::EARLY_STOPPING_FALSE:
      sampling->early_stopping = EarlyStopping::kFalse;
      break;
    default:
      violations->Add("sampling.early_stopping",
                      absl::StrCat("early_stopping=", params.early_stopping(),
                                   " is unknown; it must be FALSE, TRUE or "
                                   "NEVER"));
  }
  if (width == 0) {
    if (params.has_length_penalty() || params.has_early_stopping()) {
      violations->Add(
          "sampling.beam_width",
          "length_penalty and early_stopping are beam search's; set "
          "beam_width, or leave them out");
    }
    return;
  }
  sampling->beam_width =
      static_cast<int32_t>(std::min<uint32_t>(width, kMaxBeamWidth));
  const auto refuse = [&](bool is_set, const std::string& name,
                          absl::string_view remedy) {
    if (!is_set) return;
    violations->Add("sampling." + name,
                    absl::StrCat(name, " has no meaning for beam_width=", width,
                                 "; ", remedy));
  };
  refuse(params.has_temperature() && params.temperature() >= kGreedyBelow,
         "temperature", "leave it out or set it to 0");
  refuse(params.has_top_p(), "top_p", "leave it out");
  refuse(params.has_top_k(), "top_k", "leave it out");
  refuse(params.has_min_p(), "min_p", "leave it out");
  refuse(params.has_presence_penalty(), "presence_penalty", "leave it out");
  refuse(params.has_frequency_penalty(), "frequency_penalty", "leave it out");
  refuse(params.has_repetition_penalty(), "repetition_penalty", "leave it out");
  refuse(params.has_best_of() && params.best_of() != params.n(), "best_of",
         "the best n of the beams are returned");
  refuse(params.stop_size() > 0, "stop", "use stop_token_ids");
  refuse(params.logit_bias_size() > 0, "logit_bias", "leave it out");
  refuse(params.bad_words_size() > 0, "bad_words", "leave it out");
  refuse(params.has_allowed_token_ids(), "allowed_token_ids", "leave it out");
  refuse(params.has_structured_output(), "structured_output", "leave it out");
  if (params.has_n() && params.n() > width) {
    violations->Add("sampling.n", absl::StrCat("n=", params.n(),
                                               " is above beam_width=", width,
                                               "; lower it or widen the beam"));
  }
  // A slot reports its likeliest tokens; engine/beam_search.h says how many of
  // them a search needs.
  const size_t num_stops = sampling->stop_token_ids.size();
  if (sampling->beam_width + num_stops > kMaxSlotLogprobs) {
    violations->Add("sampling.stop_token_ids",
                    absl::StrCat(num_stops,
                                 " stop tokens, the model's own included, and "
                                 "beam_width=",
                                 width, " together are above ",
                                 kMaxSlotLogprobs, "; lower either"));
  }
  // Beams are ranked by the model's own probabilities.
  sampling->slot.temperature = 0;
}

void ReadDistribution(const v1::SamplingParams& params, SlotSampling* slot,
                      Violations* violations) {
  slot->temperature = params.has_temperature() ? params.temperature() : 1;
  violations->CheckRange("temperature", slot->temperature,
                         IsWithin(slot->temperature, 0, 2), "between 0 and 2");
  slot->top_p = params.has_top_p() ? params.top_p() : 1;
  violations->CheckRange("top_p", slot->top_p,
                         slot->top_p > 0 && slot->top_p <= 1,
                         "above 0 and at most 1");
  slot->top_k = params.has_top_k() ? params.top_k() : 0;
  violations->CheckRange("top_k", slot->top_k, slot->top_k >= -1,
                         "-1 or 0 for off, or at least 1");
  slot->top_k = std::max(slot->top_k, 0);
  slot->min_p = params.has_min_p() ? params.min_p() : 0;
  violations->CheckRange("min_p", slot->min_p, IsWithin(slot->min_p, 0, 1),
                         "between 0 and 1");
  if (slot->temperature < kGreedyBelow) {  // the filters have no say then
    slot->top_p = 1;
    slot->top_k = 0;
    slot->min_p = 0;
  }
}

void ReadPenalties(const v1::SamplingParams& params, SlotSampling* slot,
                   Violations* violations) {
  slot->presence_penalty =
      params.has_presence_penalty() ? params.presence_penalty() : 0;
  violations->CheckRange("presence_penalty", slot->presence_penalty,
                         IsWithin(slot->presence_penalty, -2, 2),
                         "between -2 and 2");
  slot->frequency_penalty =
      params.has_frequency_penalty() ? params.frequency_penalty() : 0;
  violations->CheckRange("frequency_penalty", slot->frequency_penalty,
                         IsWithin(slot->frequency_penalty, -2, 2),
                         "between -2 and 2");
  slot->repetition_penalty =
      params.has_repetition_penalty() ? params.repetition_penalty() : 1;
  // Wide enough for all uses, and no logit becomes infinite by it.
  violations->CheckRange("repetition_penalty", slot->repetition_penalty,
                         IsWithin(slot->repetition_penalty, 1e-3f, 1e3f),
                         "above 0, between 0.001 and 1000");
}

void ReadStops(const v1::SamplingParams& params, SamplingParams* sampling,
               Violations* violations) {
  if (params.stop_size() > kMaxStops) {
    violations->Add("sampling.stop",
                    absl::StrCat("stop has ", params.stop_size(),
                                 " strings; it may have at most ", kMaxStops));
  }
  for (int i = 0; i < std::min(params.stop_size(), kMaxStops); ++i) {
    const std::string& stop = params.stop(i);
    if (stop.empty()) {
      violations->Add("sampling.stop",
                      absl::StrCat("stop[", i, "] is empty; leave it out"));
    } else if (stop.size() > kMaxStopBytes) {
      violations->Add(
          "sampling.stop",
          absl::StrCat("stop[", i, "] has ", stop.size(),
                       " bytes; it may have at most ", kMaxStopBytes));
    }
    sampling->stop.push_back(stop);
  }
  sampling->include_stop_str_in_output =
      params.has_include_stop_str_in_output() &&
      params.include_stop_str_in_output();
  sampling->skip_special_tokens =
      !params.has_skip_special_tokens() || params.skip_special_tokens();
}

void ReadStopTokenIds(const v1::SamplingParams& params,
                      const ModelLimits& limits, SamplingParams* sampling,
                      Violations* violations) {
  if (params.stop_token_ids_size() > kMaxStopTokenIds) {
    violations->Add(
        "sampling.stop_token_ids",
        absl::StrCat("stop_token_ids has ", params.stop_token_ids_size(),
                     " ids; it may have at most ", kMaxStopTokenIds));
    return;
  }
  absl::StatusOr<std::vector<TokenId>> ids =
      CheckTokenIds("stop_token_ids", params.stop_token_ids(), limits);
  if (!ids.ok()) {
    violations->Add("sampling.stop_token_ids",
                    std::string(ids.status().message()));
    return;
  }
  if (!params.has_ignore_eos() || !params.ignore_eos()) {
    ids->insert(ids->end(), limits.eos_token_ids.begin(),
                limits.eos_token_ids.end());
  }
  std::sort(ids->begin(), ids->end());
  ids->erase(std::unique(ids->begin(), ids->end()), ids->end());
  sampling->stop_token_ids = *std::move(ids);
}

void ReadLengths(const v1::SamplingParams& params, int64_t default_max_tokens,
                 ValidatedRequest* request, Violations* violations) {
  request->has_max_tokens = params.has_max_tokens();
  request->max_tokens =
      params.has_max_tokens() ? params.max_tokens() : default_max_tokens;
  violations->CheckRange("max_tokens", request->max_tokens,
                         request->max_tokens >= 1, "at least 1");
  request->min_tokens = params.has_min_tokens() ? params.min_tokens() : 0;
  if (request->min_tokens > request->max_tokens) {
    violations->Add("sampling.min_tokens",
                    absl::StrCat("min_tokens=", request->min_tokens,
                                 " is above max_tokens=", request->max_tokens,
                                 params.has_max_tokens() ? "" : " (default)",
                                 "; lower it or raise max_tokens"));
  }
}

}  // namespace

absl::Status CheckModelName(const std::string& name,
                            const ModelLimits& limits) {
  if (name.empty() || name == limits.model_name) return absl::OkStatus();
  // The name is the client's and may be long; a line needs only its beginning.
  const std::string shown = name.substr(0, 100);
  absl::Status status = absl::NotFoundError(
      absl::StrCat("model \"", shown, "\" is not served here; use \"",
                   limits.model_name, "\" or leave it empty"));
  ErrorDetails details;
  details.reason = "MODEL_NOT_FOUND";
  details.metadata["model"] = limits.model_name;
  SetErrorDetails(details, &status);
  return status;
}

absl::Status CheckTextLength(const std::string& text,
                             const ModelLimits& limits) {
  const auto num_bytes = static_cast<int64_t>(text.size());
  if (limits.max_text_bytes == 0) {
    return InvalidFields(
        "INVALID_PARAMETER",
        {{"text", "this server runs without a tokenizer; send token_ids"}});
  }
  if (num_bytes <= limits.max_text_bytes) return absl::OkStatus();
  return InvalidFields("INVALID_PARAMETER",
                       {{"text", absl::StrCat("text has ", num_bytes,
                                              " bytes; it may have at most ",
                                              limits.max_text_bytes)}});
}

absl::StatusOr<std::vector<TokenId>> CheckTokenIds(
    const std::string& field, absl::Span<const uint32_t> ids,
    const ModelLimits& limits) {
  std::vector<TokenId> checked;
  checked.reserve(ids.size());
  for (const uint32_t id : ids) {
    if (id >= static_cast<uint32_t>(limits.vocab_size)) {
      return InvalidFields(
          "INVALID_PARAMETER",
          {{field, absl::StrCat(field, " holds id ", id,
                                "; the vocabulary's ids are 0 to ",
                                limits.vocab_size - 1)}});
    }
    checked.push_back(static_cast<TokenId>(id));
  }
  return checked;
}

absl::StatusOr<ValidatedRequest> ValidateGenerate(
    const v1::GenerateRequest& request, const ModelLimits& limits,
    int64_t default_max_tokens) {
  QUIRE_RETURN_IF_ERROR(CheckModelName(request.model(), limits));
  const v1::SamplingParams& params = request.sampling();
  ValidatedRequest valid;
  Violations violations;
  ReadService(request, &valid, &violations);
  SamplingParams* sampling = &valid.sampling;
  ReadDistribution(params, &sampling->slot, &violations);
  ReadPenalties(params, &sampling->slot, &violations);
  ReadStops(params, sampling, &violations);
  ReadStopTokenIds(params, limits, sampling, &violations);
  ReadTokenRules(params, limits.vocab_size,
                 /*has_tokenizer=*/limits.max_text_bytes > 0, sampling,
                 &valid.rules, &violations);
  ReadLengths(params, default_max_tokens, &valid, &violations);
  if (params.has_logprobs()) {
    violations.CheckRange("logprobs", params.logprobs(),
                          params.logprobs() <= kMaxRequestLogprobs,
                          absl::StrCat("at most ", kMaxRequestLogprobs));
    sampling->slot.num_logprobs =
        static_cast<int32_t>(std::min(params.logprobs(), kMaxRequestLogprobs));
  }
  ReadSequences(params, sampling, &violations);
  ReadBeams(params, sampling, &violations);
  valid.has_seed = params.has_seed();
  sampling->slot.seed = static_cast<uint64_t>(params.seed());
  switch (request.input_case()) {
    case v1::GenerateRequest::kText:
      valid.is_text = true;
      valid.prompt_field = "text";
      if (absl::Status status = CheckTextLength(request.text(), limits);
          !status.ok()) {
        violations.Add("text", std::string(status.message()));
      }
      break;
    case v1::GenerateRequest::kTokenIds: {
      valid.prompt_field = "token_ids";
      absl::StatusOr<std::vector<TokenId>> ids =
          CheckTokenIds("token_ids", request.token_ids().ids(), limits);
      if (ids.ok()) {
        valid.prompt = *std::move(ids);
      } else {
        violations.Add("token_ids", std::string(ids.status().message()));
      }
      break;
    }
    case v1::GenerateRequest::INPUT_NOT_SET:
      violations.Add("text",
                     "the request has no prompt; set text or token_ids");
      break;
  }
  QUIRE_RETURN_IF_ERROR(violations.ToStatus());
  return valid;
}

absl::Status FitToWindow(int64_t num_prompt_tokens, const ModelLimits& limits,
                         ValidatedRequest* request) {
  const std::string& input = request->prompt_field;
  if (num_prompt_tokens == 0) {
    return InvalidFields(
        "INVALID_PARAMETER",
        {{input, "the prompt is empty; give at least one token"}});
  }
  const int64_t room = limits.max_model_len - num_prompt_tokens;
  if (room < 1) {
    return InvalidFields(
        "CONTEXT_LENGTH_EXCEEDED",
        {{input,
          absl::StrCat("a prompt of ", num_prompt_tokens,
                       " tokens leaves no room in the model's ",
                       limits.max_model_len, "-token window; shorten it to ",
                       limits.max_model_len - 1, " or less")}});
  }
  if (!request->has_max_tokens) {
    request->max_tokens = std::min(request->max_tokens, room);
  }
  // Since min_tokens <= max_tokens was checked, at most one of them is at
  // fault: the one that was set.
  const bool is_max = request->has_max_tokens;
  const int64_t asked = is_max ? request->max_tokens : request->min_tokens;
  if (asked > room) {
    const std::string name = is_max ? "max_tokens" : "min_tokens";
    return InvalidFields(
        "CONTEXT_LENGTH_EXCEEDED",
        {{"sampling." + name,
          absl::StrCat(name, "=", asked, " plus prompt ", num_prompt_tokens,
                       " exceeds the model's ", limits.max_model_len,
                       "-token window; lower ", name, " to ", room,
                       " or less")}});
  }
  SamplingParams& sampling = request->sampling;
  sampling.max_tokens = static_cast<int32_t>(request->max_tokens);
  sampling.slot.min_tokens = static_cast<int32_t>(request->min_tokens);
  sampling.slot.stop_token_ids.clear();
  if (sampling.slot.min_tokens > 0) {
    sampling.slot.stop_token_ids = sampling.stop_token_ids;
  }
  return absl::OkStatus();
}

}  // namespace quire
