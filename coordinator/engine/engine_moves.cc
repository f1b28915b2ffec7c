// SPDX-License-Identifier: Apache-2.0
//
// How EngineCore gives requests to another engine, and takes them. A group
// that waits without slots is the same in every engine but for its place in
// the queue and its sequences' names, so it moves as it is: tokens, masks,
// beams and what is withheld.
#include <algorithm>
#include <string>
#include <utility>

#include "coordinator/engine/engine_core.h"
#include "glog/logging.h"

namespace quire {

std::vector<MovedGroup> EngineCore::TakeAll(absl::Time now) {
  CHECK(!is_ready()) << "requests leave an engine that has workers";
  std::vector<SequenceGroup*> all;
  for (const auto& [key, group] : groups_) all.push_back(group.get());
  std::sort(all.begin(), all.end(), [](const auto* a, const auto* b) {
    return a->arrival < b->arrival;
  });
  std::vector<MovedGroup> taken;
  for (SequenceGroup* group : all) {
    MovedGroup& moved = taken.emplace_back();
    waiting_.Erase(*group);
    LeaveQueue(group);
    moved.num_charged_tokens = waiting_.Depart(*group, now, &moved.timeline);
    deadlines_.erase({group->deadline, group->key});
    const auto it = groups_.find(group->key);
    moved.group = std::move(it->second);
    groups_.erase(it);
  }
  return taken;
}

void EngineCore::Adopt(MovedGroup moved, absl::Time now) {
  SequenceGroup* group = moved.group.get();
  group->arrival = --first_arrival_;
  group->was_moved = true;
  for (Sequence& seq : group->sequences) {
    seq.id = SequenceId(++last_sequence_id_);
  }
  CHECK(groups_.emplace(group->key, std::move(moved.group)).second);
  waiting_.Arrive(group, std::move(moved.timeline), moved.num_charged_tokens,
                  is_ready(), now);
  Requeue(group);
  if (group->deadline != absl::InfiniteFuture()) {
    deadlines_.insert({group->deadline, group->key});
  }
  has_suspects_ |= group->runs_alone();
  ++metrics_.counters.num_adopted;
  if (!is_ready()) return;
  const absl::Status fits = CheckFitsAlone(
      options_, kv_->Usage().num_blocks, group->sequences[0].num_prompt_tokens,
      group->sampling.max_tokens, kv_->block_size(),
      NumSequences(group->sampling));
  if (fits.ok()) return;
  EndGroup(group, FinishReason::kNone,
           absl::UnavailableError(std::string(fits.message())), now);
  SweepEnded();
}

}  // namespace quire
