// SPDX-License-Identifier: Apache-2.0
//
// How much of a prompt a group's cache has, as its PrefixSummary tells: the
// prompt's keys are made once and asked of every group.
#ifndef COORDINATOR_ROUTING_PREFIX_MATCH_H_
#define COORDINATOR_ROUTING_PREFIX_MATCH_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/kv/block_key.h"
#include "coordinator/kv/kv_manager.h"
#include "coordinator/kv/prefix_summary.h"

namespace quire {

// Of the prompt's full blocks, by the process's hash key. None if the scope is
// 0: such a prompt finds nothing.
std::vector<BlockKey> PrefixKeys(CacheScope scope,
                                 absl::Span<const TokenId> prompt,
                                 int32_t block_size);

// Tokens of a prompt with these keys that an admission would find computed,
// [0, num_prompt_tokens - 1]: up to the last block before which none is
// missing, or with an attention window, none of those that it sees.
int32_t CountCachedTokens(const PrefixSummary::Reading& reading,
                          absl::Span<const BlockKey> keys,
                          int32_t num_prompt_tokens, int32_t block_size,
                          int32_t window);

}  // namespace quire

#endif  // COORDINATOR_ROUTING_PREFIX_MATCH_H_
