// SPDX-License-Identifier: Apache-2.0
//
// Who shares cached prefixes with whom: a salt is turned into a scope that the
// prefix index can carry.
#ifndef COORDINATOR_ENGINE_CACHE_SCOPE_H_
#define COORDINATOR_ENGINE_CACHE_SCOPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "common/ids.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// SipHash-2-4 (Aumasson, Bernstein, 2012) of `text`: whoever does not know
// `key` cannot find two texts of equal hash.
uint64_t SipHash24(uint64_t key, absl::string_view text);

// The scope of requests with this salt. Never 0, nor one of a group alone.
CacheScope SharedScope(uint64_t key, absl::string_view salt);

// A scope of one sequence group, in which its siblings alone find each other's
// blocks. Never 0, nor one of a salt.
CacheScope PrivateScope(RequestKey group);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_CACHE_SCOPE_H_
