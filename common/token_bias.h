// SPDX-License-Identifier: Apache-2.0
//
// Plain data, read by nvcc too.
#ifndef COMMON_TOKEN_BIAS_H_
#define COMMON_TOKEN_BIAS_H_

#include <cstdint>

namespace quire {

// Added to a token's logit.
struct TokenBias {
  int32_t token_id;
  float bias;  // [-100, 100]
};

inline bool operator==(const TokenBias& a, const TokenBias& b) {
  return a.token_id == b.token_id && a.bias == b.bias;
}

}  // namespace quire

#endif  // COMMON_TOKEN_BIAS_H_
