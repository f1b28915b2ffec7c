// SPDX-License-Identifier: Apache-2.0
//
// Tokens of simulated text: what matters of them is who has the same.
#ifndef TOOLS_SIMULATOR_MADE_UP_TOKEN_H_
#define TOOLS_SIMULATOR_MADE_UP_TOKEN_H_

#include <cstdint>

#include "common/ids.h"

namespace quire {

// Of [100, 20100); below are those that models keep for themselves. The bits of
// `draw` are spread already; neighbours have different tokens.
inline TokenId MadeUpToken(uint64_t draw) {
  return static_cast<TokenId>(100 + draw % 20000);
}

}  // namespace quire

#endif  // TOOLS_SIMULATOR_MADE_UP_TOKEN_H_
