// SPDX-License-Identifier: Apache-2.0
//
// The sequences of one request: admitted and preempted together. One of them
// computes the prompt; the others fork from it (engine_forks.cc).
#ifndef COORDINATOR_ENGINE_SEQUENCE_GROUP_H_
#define COORDINATOR_ENGINE_SEQUENCE_GROUP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "coordinator/engine/beam_group.h"
#include "coordinator/engine/held_output.h"
#include "coordinator/engine/sequence.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// Worker groups that may be lost while they run a request and others, before it
// is computed alone.
inline constexpr int32_t kLossesInCompany = 2;

// Plain data of the engine thread. Does not move: its sequences point to it.
struct SequenceGroup {
  // Running: one of its sequences has a slot.
  enum class State { kWaiting, kRunning, kEnded };

  SequenceGroup() = default;
  SequenceGroup(const SequenceGroup&) = delete;
  SequenceGroup& operator=(const SequenceGroup&) = delete;

  RequestKey key;
  std::string request_id;
  int64_t arrival = 0;     // 1, 2, 3 ... of this engine
  int64_t rank = 0;        // the lower goes first; see service_order.h
  int32_t priority = 0;    // asked for by it and its tenant
  int32_t tenant_idx = 0;  // see waiting_room.h
  std::string tenant;
  State state = State::kWaiting;
  SamplingParams sampling;
  std::vector<Sequence> sequences;   // does not grow while one has a slot
  std::vector<HeldOutput> held;      // by index, if they are withheld
  std::unique_ptr<BeamGroup> beams;  // null: its sequences sample
  CacheScope cache_scope = 0;
  // Slots kept for unfinished ones that have none, while it runs.
  int32_t num_reserved_slots = 0;
  // Of the prompt, found computed when it was first admitted.
  int32_t num_cached_tokens = 0;
  // Of the prompt, those whose log probability was told, if that is asked for;
  // the first has none.
  int32_t num_scored_tokens = 1;
  absl::Time deadline = absl::InfiniteFuture();

  int32_t num_preemptions = 0;
  int32_t num_lost_groups = 0;  // worker groups, while they ran it
  int32_t num_suspicions = 0;   // of them, since it last gained a token alone
  bool was_moved = false;       // from another engine, and not admitted since
  absl::Time arrival_time;
  absl::Time first_scheduled_time = absl::InfinitePast();  // so: not yet
  absl::Time first_token_time = absl::InfinitePast();

  bool was_scheduled() const {
    return first_scheduled_time != absl::InfinitePast();
  }
  // Whether nothing else may be computed with it: see engine_losses.cc.
  bool runs_alone() const { return num_suspicions >= kLossesInCompany; }
  int32_t num_in_flight() const {
    int32_t num = 0;
    for (const Sequence& seq : sequences) num += seq.num_in_flight;
    return num;
  }
  // Results still to come that say how a waiting group goes on.
  int32_t num_awaited() const {
    int32_t num = 0;
    for (const Sequence& seq : sequences) {
      if (!seq.finished) num += seq.num_in_flight;
    }
    return num;
  }
  // Whether the sequence's next token waits for its mask.
  bool AwaitsMask(const Sequence& seq) const {
    return sampling.slot.needs_mask && !seq.finished &&
           seq.num_masked_outputs != seq.num_output_tokens();
  }
  // Whether no result and no mask is to come that says how it goes on.
  bool IsSettled() const {
    for (const Sequence& seq : sequences) {
      if (AwaitsMask(seq)) return false;
    }
    return num_awaited() == 0;
  }
  // Whether the sequence is to be computed: unlike one that has ended, or one
  // whose beam is dead.
  bool IsLive(const Sequence& seq) const {
    return !seq.finished && (beams == nullptr || beams->IsRunning(seq.index));
  }
  int32_t num_unfinished() const {
    int32_t num = 0;
    for (const Sequence& seq : sequences) num += seq.finished ? 0 : 1;
    return num;
  }
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_SEQUENCE_GROUP_H_
