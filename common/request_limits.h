// SPDX-License-Identifier: Apache-2.0
//
// What a request may ask for at most, as servers check it and clients tell it.
#ifndef COMMON_REQUEST_LIMITS_H_
#define COMMON_REQUEST_LIMITS_H_

#include <cstdint>

namespace quire {

// Likeliest tokens told beside a token of the output or the prompt; OpenAI's
// and vLLM's limit.
inline constexpr uint32_t kMaxRequestLogprobs = 20;

}  // namespace quire

#endif  // COMMON_REQUEST_LIMITS_H_
