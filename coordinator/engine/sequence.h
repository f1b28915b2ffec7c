// SPDX-License-Identifier: Apache-2.0
//
// One token stream being extended: what is known of it. What is planned for it
// is the scheduler's RunningSequence.
#ifndef COORDINATOR_ENGINE_SEQUENCE_H_
#define COORDINATOR_ENGINE_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "common/ids.h"

namespace quire {

struct SequenceGroup;

// Plain data of the engine thread. Fields that each token touches come first.
struct Sequence {
  std::vector<TokenId> tokens;  // prompt, then outputs
  RequestKey request;
  int32_t num_prompt_tokens = 0;
  int32_t min_tokens = 0;      // outputs before a stop token counts
  int32_t max_num_tokens = 0;  // prompt and outputs
  int32_t index = 0;           // in its group
  bool has_slot = false;
  bool finished = false;   // results still to come are dropped
  bool withheld = false;   // its outputs wait for its siblings' (best_of.h)
  bool publishes = false;  // others of its scope may find its full blocks
  bool parked = false;     // the KV manager keeps what it has computed
  // Results still to come for one that no longer has its slot.
  int32_t num_in_flight = 0;
  // Sorted. A few lie in the sequence itself, so that a token is compared
  // without another line of memory.
  absl::InlinedVector<TokenId, 4> stop_token_ids;
  // What it may sample after `num_masked_outputs` output tokens, and after no
  // others, if its group's sampling needs masks.
  std::vector<uint32_t> mask;
  int32_t num_masked_outputs = 0;
  SlotId slot;  // if has_slot
  SequenceId id;
  SequenceGroup* group = nullptr;  // owns this

  int32_t num_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t num_output_tokens() const { return num_tokens() - num_prompt_tokens; }
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_SEQUENCE_H_
