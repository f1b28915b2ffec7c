// SPDX-License-Identifier: Apache-2.0
//
// What a pool's slots are used for, as figure 2 of the PagedAttention paper
// (SOSP'23) counts it: the same question for paged, reserved and virtual
// memory.
#ifndef COORDINATOR_KV_KV_BREAKDOWN_H_
#define COORDINATOR_KV_KV_BREAKDOWN_H_

#include <cstdint>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// How long a sequence that holds a slot is, and will have been at its end.
struct KvLengths {
  SlotId slot;
  int32_t num_computed = 0;  // tokens whose keys and values are stored
  // Stored when it ends. The last output token never is: prompt and outputs
  // less one.
  int32_t num_final = 0;
};

// Places for one token each. The first five add up to num_slots.
struct KvBreakdown {
  int64_t num_token_states = 0;  // hold a token's keys and values
  int64_t num_reserved = 0;      // held for tokens that are yet to come
  int64_t num_internal = 0;      // held, and never written: internal
                                 // fragmentation
  int64_t num_cached = 0;        // held by nobody, with contents kept for reuse
  int64_t num_unheld = 0;        // free: too small or too scattered while
                                 // somebody waits (external fragmentation)
  int64_t num_slots = 0;
  // Token states if nothing were shared; equal to num_token_states if nothing
  // is. What sharing saves is 1 - num_token_states / num_logical_states.
  int64_t num_logical_states = 0;
};

// `sequences` are all that hold a slot of `manager`. Costs a sort of all the
// blocks they hold.
KvBreakdown BreakDown(const KvManager& manager,
                      absl::Span<const KvLengths> sequences);

}  // namespace quire

#endif  // COORDINATOR_KV_KV_BREAKDOWN_H_
