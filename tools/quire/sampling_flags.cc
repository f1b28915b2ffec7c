// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/sampling_flags.h"

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/request_limits.h"
#include "common/sampling_params.h"
#include "common/status_macros.h"
#include "tools/cli/integer_flag.h"
#include "tools/quire/text_check.h"

namespace quire {
namespace {

absl::Status SetIntegers(const SamplingFlags& sampling,
                         v1::SamplingParams* params) {
  if (sampling.top_k) {
    QUIRE_ASSIGN_OR_RETURN(const int32_t top_k,
                           InRange<int32_t>("top_k", *sampling.top_k, -1));
    params->set_top_k(top_k);
  }
  if (sampling.min_tokens) {
    QUIRE_ASSIGN_OR_RETURN(
        const uint32_t min_tokens,
        InRange<uint32_t>("min_tokens", *sampling.min_tokens, 0));
    params->set_min_tokens(min_tokens);
  }
  if (sampling.max_tokens) {
    QUIRE_ASSIGN_OR_RETURN(
        const uint32_t max_tokens,
        InRange<uint32_t>("max_tokens", *sampling.max_tokens, 1));
    params->set_max_tokens(max_tokens);
  }
  if (sampling.logprobs) {
    QUIRE_ASSIGN_OR_RETURN(const uint32_t logprobs,
                           InRange<uint32_t>("logprobs", *sampling.logprobs, 0,
                                             kMaxRequestLogprobs));
    params->set_logprobs(logprobs);
  }
  if (sampling.n) {
    QUIRE_ASSIGN_OR_RETURN(
        const uint32_t n,
        InRange<uint32_t>("n", *sampling.n, 1, kMaxSequencesPerGroup));
    params->set_n(n);
  }
  if (sampling.best_of) {
    QUIRE_ASSIGN_OR_RETURN(const uint32_t best_of,
                           InRange<uint32_t>("best_of", *sampling.best_of, 1,
                                             kMaxSequencesPerGroup));
    params->set_best_of(best_of);
  }
  if (sampling.beam_width) {
    const int64_t width = *sampling.beam_width;
    if (width != 0 && (width < 2 || width > kMaxBeamWidth)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--beam_width=", width, " is outside 2..", kMaxBeamWidth,
                       ", and is not 0 (no beam search)"));
    }
    params->set_beam_width(static_cast<uint32_t>(width));
  }
  return absl::OkStatus();
}

absl::Status SetStopTokenIds(const SamplingFlags& sampling,
                             v1::SamplingParams* params) {
  for (const std::string& text : sampling.stop_token_ids) {
    uint32_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--stop_token_ids: ", text, " is not a token id"));
    }
    params->add_stop_token_ids(id);
  }
  return absl::OkStatus();
}

absl::Status SetEarlyStopping(const std::string& text,
                              v1::SamplingParams* params) {
  if (text.empty()) return absl::OkStatus();
  if (text == "true") {
    params->set_early_stopping(v1::EARLY_STOPPING_TRUE);
  } else if (text == "false") {
    params->set_early_stopping(v1::EARLY_STOPPING_FALSE);
  } else if (text == "never") {
    params->set_early_stopping(v1::EARLY_STOPPING_NEVER);
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "--early_stopping=", text, " is none of true, false, never"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddSamplingFlags(SamplingFlags* sampling, FlagSet* flags) {
  flags->Add("temperature", &sampling->temperature,
             "0..2; below 1e-5 takes the likeliest token");
  flags->Add("top_p", &sampling->top_p,
             "sample from the fewest tokens that together reach this "
             "probability, (0, 1]");
  flags->Add("top_k", &sampling->top_k,
             "sample from the k likeliest tokens; 0 or -1: all");
  flags->Add("min_p", &sampling->min_p,
             "drop tokens less likely than this share of the likeliest, 0..1");
  flags->Add("presence_penalty", &sampling->presence_penalty,
             "-2..2, once for each token already generated");
  flags->Add("frequency_penalty", &sampling->frequency_penalty,
             "-2..2, for each earlier generation of a token");
  flags->Add("repetition_penalty", &sampling->repetition_penalty,
             "0.001..1000; above 1 discourages tokens of prompt and output");
  flags->Add("seed", &sampling->seed,
             "makes the output a function of the request alone");
  flags->AddRepeated("stop", &sampling->stop,
                     "end before this text; may be given several times");
  flags->AddList("stop_token_ids", &sampling->stop_token_ids,
                 "end at any of these token ids, such as 2,50256");
  flags->Add("ignore_eos", &sampling->ignore_eos,
             "do not stop at the model's end-of-sequence token");
  flags->Add("min_tokens", &sampling->min_tokens,
             "generate at least this many tokens");
  flags->Add("max_tokens", &sampling->max_tokens,
             "generate at most this many tokens");
  flags->Add("logprobs", &sampling->logprobs,
             "0..20; with --json, report log probabilities of the sampled "
             "and of this many of the likeliest tokens");
  flags->Add("include_stop_str_in_output",
             &sampling->include_stop_str_in_output,
             "keep the stop text in the output");
  flags->Add("skip_special_tokens", &sampling->skip_special_tokens,
             "leave special tokens out of the text");
  flags->Add("n", &sampling->n, "answers to return, 1 to 16");
  flags->Add("best_of", &sampling->best_of,
             "answers to sample, of which the n likeliest are returned, best "
             "first");
  flags->Add("beam_width", &sampling->beam_width,
             "2..16; search for the likeliest output with this many beams "
             "instead of sampling");
  flags->Add("length_penalty", &sampling->length_penalty,
             "beams are ranked by log probability / length to this power; "
             "above 0 favours long ones (default 1)");
  flags->Add("early_stopping", &sampling->early_stopping,
             "end a beam search with beam_width finished beams (true), when "
             "better ones are unlikely (false, the default), or when they are "
             "impossible (never)");
  AddTokenRuleFlags(&sampling->rules, flags);
}

absl::StatusOr<v1::SamplingParams> ToSamplingParams(
    const SamplingFlags& sampling) {
  v1::SamplingParams params;
  if (sampling.temperature) params.set_temperature(*sampling.temperature);
  if (sampling.top_p) params.set_top_p(*sampling.top_p);
  if (sampling.min_p) params.set_min_p(*sampling.min_p);
  if (sampling.presence_penalty) {
    params.set_presence_penalty(*sampling.presence_penalty);
  }
  if (sampling.frequency_penalty) {
    params.set_frequency_penalty(*sampling.frequency_penalty);
  }
  if (sampling.repetition_penalty) {
    params.set_repetition_penalty(*sampling.repetition_penalty);
  }
  if (sampling.seed) params.set_seed(*sampling.seed);
  for (const std::string& stop : sampling.stop) {
    QUIRE_RETURN_IF_ERROR(CheckText("--stop", stop));
    params.add_stop(stop);
  }
  if (sampling.ignore_eos) params.set_ignore_eos(*sampling.ignore_eos);
  if (sampling.include_stop_str_in_output) {
    params.set_include_stop_str_in_output(*sampling.include_stop_str_in_output);
  }
  if (sampling.skip_special_tokens) {
    params.set_skip_special_tokens(*sampling.skip_special_tokens);
  }
  if (sampling.length_penalty) {
    params.set_length_penalty(*sampling.length_penalty);
  }
  QUIRE_RETURN_IF_ERROR(SetEarlyStopping(sampling.early_stopping, &params));
  QUIRE_RETURN_IF_ERROR(SetIntegers(sampling, &params));
  QUIRE_RETURN_IF_ERROR(SetStopTokenIds(sampling, &params));
  QUIRE_RETURN_IF_ERROR(SetTokenRules(sampling.rules, &params));
  return params;
}

}  // namespace quire
