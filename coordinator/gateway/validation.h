// SPDX-License-Identifier: Apache-2.0
//
// quire.v1.GenerateRequest -> what the engine takes. Bad input is refused here,
// once, with the field's name; nothing behind the gateway checks a client's
// numbers again.
#ifndef COORDINATOR_GATEWAY_VALIDATION_H_
#define COORDINATOR_GATEWAY_VALIDATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "coordinator/gateway/token_rules.h"
#include "proto/inference.pb.h"

namespace quire {

// Of Generate, as vLLM's.
inline constexpr int64_t kDefaultMaxTokens = 16;

// What requests are measured against.
struct ModelLimits {
  std::string model_name;
  // Ids below are valid: least of the tokenizer's vocabulary and the logits'
  // width.
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;  // tokens of prompt and output together
  std::vector<TokenId> eos_token_ids;
  int64_t max_text_bytes = 0;  // of a text; 0: there is no tokenizer
};

// A request whose fields are in range. The prompt, if it is text, is still to
// be encoded and fitted to the window.
struct ValidatedRequest {
  std::string request_id;  // "" if the client gave none
  bool is_text = false;
  std::string prompt_field;     // where the client put the prompt
  std::vector<TokenId> prompt;  // empty if it is text
  SamplingParams sampling;      // defaults applied, but for the lengths
  TokenRules rules;             // still to be encoded and compiled
  bool has_seed = false;
  bool has_max_tokens = false;
  int64_t max_tokens = 0;  // as asked for, or the default
  int64_t min_tokens = 0;
  int32_t priority = 0;
  std::string tenant;
  bool use_prefix_cache = true;
  std::string cache_salt;  // "": the tenant
};

// InvalidArgument lists every violated field in BadRequest, reason
// INVALID_PARAMETER; its message is the first one's sentence. NotFound, reason
// MODEL_NOT_FOUND, for another model's name.
absl::StatusOr<ValidatedRequest> ValidateGenerate(
    const v1::GenerateRequest& request, const ModelLimits& limits,
    int64_t default_max_tokens = kDefaultMaxTokens);

// Checks the prompt's length, and the length that is asked for, against the
// window, and sets the lengths in request->sampling; an unset max_tokens is cut
// to what is left. InvalidArgument with reason CONTEXT_LENGTH_EXCEEDED, or
// INVALID_PARAMETER for an empty prompt.
absl::Status FitToWindow(int64_t num_prompt_tokens, const ModelLimits& limits,
                         ValidatedRequest* request);

// NotFound, reason MODEL_NOT_FOUND, unless `name` is empty or the model's.
absl::Status CheckModelName(const std::string& name, const ModelLimits& limits);

// InvalidArgument if `text` is longer than limits.max_text_bytes.
absl::Status CheckTextLength(const std::string& text,
                             const ModelLimits& limits);

// Checks ids of `field` against the vocabulary and converts them.
absl::StatusOr<std::vector<TokenId>> CheckTokenIds(
    const std::string& field, absl::Span<const uint32_t> ids,
    const ModelLimits& limits);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_VALIDATION_H_
