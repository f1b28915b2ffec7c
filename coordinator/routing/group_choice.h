// SPDX-License-Identifier: Apache-2.0
//
// Which replica group a request goes to: the one where it will start earliest.
// A pure function of a snapshot.
//
// A group's first answer to a request is reckoned from what stands before it:
//
//   the step under way     one decode step, and a token's time for each
//                          sequence that decodes
//   prompts                those sent there that have no first token yet, and
//                          its own, less what the group's cache has of it; at
//                          the measured rate of prefill, in the part of a step
//                          that decodes leave
//   slots and blocks       as many times a sequence's life as must end before
//                          there is room, by slots or by KV blocks
//
// All groups run the same model on as many ranks of one kind, so times are
// those of the group that was measured fastest: differences between
// measurements are noise, and a group that really is slower shows it by its
// queue.
#ifndef COORDINATOR_ROUTING_GROUP_CHOICE_H_
#define COORDINATOR_ROUTING_GROUP_CHOICE_H_

#include <cstdint>
#include <vector>

namespace quire {

// What is known of a group at a moment.
struct GroupLoad {
  bool is_ready = false;
  bool fits = true;                // its pool holds the request, if alone
  int32_t num_decodes = 0;         // sequences that have their first token
  int32_t num_pending_seqs = 0;    // sequences sent there that have none
  int64_t num_pending_tokens = 0;  // of their prompts, not found cached
  int32_t num_blocks = 0;
  int32_t num_free_blocks = 0;    // or cached: all that can be taken
  int32_t num_cached_tokens = 0;  // of the request's prompt
  int64_t num_routed = 0;         // requests so far
  // As measured; 0: not yet.
  double prefill_tokens_per_s = 0;
  double decode_step_us = 0;
};

struct RouteView {
  std::vector<GroupLoad> groups;
  // The request.
  int32_t num_prompt_tokens = 0;
  int32_t num_seqs = 1;
  // Of every group.
  int32_t max_num_seqs = 1;
  int32_t max_num_batched_tokens = 1;
  int32_t block_size = 1;         // tokens
  double mean_output_tokens = 0;  // of a sequence, of late
};

enum class RoutingPolicy {
  kEarliestStart,
  kRoundRobin,  // to compare with: whoever was sent the fewest
};

// The index of the group, or -1 if none is ready. One whose pool cannot hold
// the request is chosen only if none can. Of groups that are equal in this, the
// one with fewer sequences, then the first.
int32_t ChooseGroup(const RouteView& view, RoutingPolicy policy);

// When the request would have its first token in group `group_idx`, in
// microseconds from now.
double EstimateStart(const RouteView& view, int32_t group_idx);

}  // namespace quire

#endif  // COORDINATOR_ROUTING_GROUP_CHOICE_H_
