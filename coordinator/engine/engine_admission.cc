// SPDX-License-Identifier: Apache-2.0
//
// How EngineCore moves groups between the queue and the slots: what an
// admission would cost, what it finds, and what a preempted group leaves.
#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "common/sparse_attention.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/kv/attention_window.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Waiting groups whose hints are kept fresh: as many as may pass a head.
constexpr size_t kNumFreshHints = 16;

// Where `seq` stands in its group and how long it is. REQUIRES: it has a slot.
RunningSequence RunningEntryOf(const Sequence& seq) {
  const SequenceGroup& group = *seq.group;
  RunningSequence entry;
  entry.arrival = group.arrival;
  entry.rank = group.rank;
  entry.priority = group.priority;
  entry.tenant_idx = group.tenant_idx;
  entry.num_group_preemptions = group.num_preemptions;
  entry.slot = seq.slot;
  entry.runs_alone = group.runs_alone();
  entry.num_tokens = seq.num_tokens();
  entry.num_prefill_tokens = seq.num_tokens();
  entry.max_num_tokens = seq.max_num_tokens;
  return entry;
}

// Tells the workers all of `seq` but its cache. REQUIRES: it has a slot.
void DescribeSequence(const Sequence& seq, AdmittedSlot* admitted) {
  const SequenceGroup& group = *seq.group;
  admitted->slot = seq.slot;
  admitted->sequence_id = seq.id;
  admitted->tokens = seq.tokens;
  admitted->num_prompt_tokens = seq.num_prompt_tokens;
  admitted->sampling = group.beams != nullptr
                           ? BeamGroup::SlotSamplingOf(group.sampling)
                           : group.sampling.slot;
  admitted->sampling.seed = SequenceSeed(group.sampling.slot.seed, seq.index);
  if (group.num_scored_tokens >= seq.num_prompt_tokens) {
    admitted->sampling.num_prompt_logprobs = -1;  // all have been told
  }
  if (seq.withheld) {
    admitted->sampling.num_logprobs =
        std::max(0, admitted->sampling.num_logprobs);
  }
}

}  // namespace

KvAdmission EngineCore::AdmissionOf(const Sequence& seq) const {
  return {.sequence_id = seq.id,
          .tokens = seq.tokens,
          .num_new_tokens = 0,
          .max_num_tokens = seq.max_num_tokens,
          .scope = seq.group->cache_scope,
          .window = window_,
          .num_common_tokens = NumCommonTokens(seq)};
}

int32_t EngineCore::NumCommonTokens(const Sequence& seq) const {
  if (options_.sparse_pages == 0) return std::numeric_limits<int32_t>::max();
  return FirstSparsePosition(options_.sparse_pages, kv_->block_size(),
                             seq.num_prompt_tokens);
}

void EngineCore::Publish(const Sequence& seq, int32_t num_computed) {
  kv_->Publish(seq.slot, seq.tokens,
               std::min(num_computed, NumCommonTokens(seq)));
}

// One without outputs is nothing but the prompt, which the first one computes.
// With a window the first one must not have gone on: it may have left behind
// what the prompt's last token sees.
bool EngineCore::ForksLater(const Sequence& seq) const {
  if (!kv_->can_fork() || seq.num_output_tokens() > 0) return false;
  if (window_ == 0) return true;
  const SequenceGroup& group = *seq.group;
  for (const Sequence& first : group.sequences) {
    if (group.IsLive(first)) return first.num_output_tokens() == 0;
  }
  return false;
}

void EngineCore::SettleWaiting(SequenceGroup* group) {
  WaitingGroup* waiting = waiting_.Find(*group);
  CHECK(waiting != nullptr);
  Settle(*group, waiting);
}

void EngineCore::Settle(const SequenceGroup& group,
                        WaitingGroup* waiting) const {
  waiting->ready = group.IsSettled();
  waiting->runs_alone = group.runs_alone();
  waiting->num_seqs = group.num_unfinished();
  waiting->num_tokens = 0;
  waiting->num_wanted_blocks = 0;
  bool is_first = true;
  int32_t num_first_found = 0;  // tokens
  for (const Sequence& seq : group.sequences) {
    if (!group.IsLive(seq)) continue;
    if (!is_ready()) {  // settled again when it is
      waiting->num_tokens += seq.num_tokens();
      continue;
    }
    if (!is_first && ForksLater(seq)) {
      ++waiting->num_wanted_blocks;  // to write its first own token to
      continue;
    }
    const int32_t block_size = kv_->block_size();
    KvReuse found;
    if (seq.publishes || seq.parked) {
      found = kv_->FindReusable(AdmissionOf(seq));
    }
    const int32_t num_tokens =
        std::max(seq.num_tokens(),
                 kv_->AdmissionTokens(seq.num_tokens(), seq.max_num_tokens));
    // What it shares with the first one is counted there.
    int32_t num_shared = 0;
    if (is_first) {
      num_first_found = found.num_computed_tokens;
    } else {
      num_shared = std::min({num_first_found, found.num_computed_tokens,
                             seq.num_prompt_tokens}) /
                   block_size;
    }
    is_first = false;
    waiting->num_tokens += seq.num_tokens() - found.num_computed_tokens;
    const int32_t num_wanted = (num_tokens + block_size - 1) / block_size -
                               std::max(found.num_held_blocks, num_shared);
    waiting->num_wanted_blocks += std::min(num_wanted, max_seq_blocks_);
  }
  // Siblings that chunks of full size would not let into the pool together take
  // smaller ones.
  if (window_ > 0) {
    waiting->num_wanted_blocks =
        std::min(waiting->num_wanted_blocks, kv_->Usage().num_blocks);
  }
}

void EngineCore::RefreshHints(const View& view) {
  if (!hints_are_stale_ || waiting_.size() == 0 || view.num_free_slots <= 0) {
    return;
  }
  hints_are_stale_ = false;
  const auto refresh = [this](absl::Span<const WaitingGroup> groups) {
    for (const WaitingGroup& waiting :
         groups.first(std::min(groups.size(), kNumFreshHints))) {
      SettleWaiting(groups_.at(waiting.key).get());
    }
  };
  refresh(view.waiting);
  for (const TenantView& tenant : view.tenants) refresh(tenant.waiting);
}

void EngineCore::PreemptDecided(absl::Time now) {
  for (size_t idx = 0; idx < decision_.preempted.size(); ++idx) {
    const RunningSequence& entry = running_[decision_.preempted[idx]];
    const Sequence* seq = slots_[entry.slot.value()];
    if (seq == nullptr) continue;  // went with its sibling
    waiting_.Preempt(*seq->group, decision_, idx, now);
    const auto [begin, end] = GroupRange(*seq->group);
    Preempt(begin, end);
  }
}

void EngineCore::Preempt(size_t begin, size_t end) {
  SequenceGroup* group = slots_[running_[begin].slot.value()]->group;
  ++metrics_.counters.num_preemptions;
  ++group->num_preemptions;
  PreemptionVictim victim;
  group_slots_.clear();
  for (size_t idx = begin; idx < end; ++idx) {
    const RunningSequence& entry = running_[idx];
    group_slots_.push_back(entry.slot);
    // The prompt is computed once for all.
    victim.num_tokens +=
        idx == begin ? entry.num_computed_tokens
                     : std::max(0, entry.num_computed_tokens -
                                       group->sequences[0].num_prompt_tokens);
  }
  victim.num_blocks = kv_->NumPrivateBlocks(group_slots_);
  const bool retains =
      options_.enable_prefix_caching || group->sequences.size() > 1;
  const KvUsage usage = kv_->Usage();
  const ParkMode mode =
      ChooseParkMode(options_.preemption_mode, retains,
                     usage.num_free_host_blocks + usage.num_host_prefix_blocks,
                     rates_, victim);
  for (size_t idx = begin; idx < end; ++idx) {
    const RunningSequence& entry = running_[idx];
    Sequence* seq = slots_[entry.slot.value()];
    // One that has sampled nothing forks again, unless it comes first.
    const bool forks_again = idx > begin && kv_->can_fork() && window_ == 0 &&
                             entry.num_tokens == seq->num_prompt_tokens;
    if (seq->finished || forks_again || entry.num_computed_tokens == 0) {
      continue;  // released by Requeue
    }
    kv_->Park(seq->slot, seq->id, entry.num_computed_tokens, mode);
    seq->parked = true;
    VacateSlot(seq);
  }
  Requeue(group);
}

void EngineCore::AdmitDecided(InFlightStep* step, absl::Time now) {
  for (size_t idx = 0; idx < decision_.admissions.size(); ++idx) {
    SequenceGroup* group = groups_.at(waiting_.admission_key(idx)).get();
    if (!Admit(group, decision_.admissions[idx].num_tokens, step, now)) {
      ++metrics_.counters.num_refused_admissions;
      SettleWaiting(group);
      break;
    }
  }
}

bool EngineCore::Admit(SequenceGroup* group, int32_t budget, InFlightStep* step,
                       absl::Time now) {
  CHECK(group->IsSettled());
  CHECK_LE(group->num_unfinished() + num_reserved_slots_, free_slots_.size());
  if (group->beams != nullptr) group->beams->DropResults();
  const auto first =
      std::find_if(group->sequences.begin(), group->sequences.end(),
                   [group](const Sequence& seq) { return group->IsLive(seq); });
  CHECK(first != group->sequences.end());
  const int32_t whole_budget = budget;
  if (!Place(&*first, &budget, step)) return false;
  waiting_.Erase(*group);
  waiting_.Admit(*group, EntryOf(*first)->num_computed_tokens,
                 whole_budget - budget, now);
  LeaveQueue(group);
  group->state = SequenceGroup::State::kRunning;
  if (!group->was_scheduled()) group->first_scheduled_time = now;
  if (std::exchange(group->was_moved, false)) {
    effects_.begun.push_back(group->key);
  }
  for (auto seq = group->sequences.begin(); seq < group->sequences.end();
       ++seq) {
    if (seq->finished || seq == first) continue;
    const bool forks_later = !group->IsLive(*seq) || ForksLater(*seq);
    if (!forks_later && Place(&*seq, &budget, step)) continue;
    if (!forks_later) unplaced_.push_back({group->key, seq->index});
    ++group->num_reserved_slots;
    ++num_reserved_slots_;
  }
  // A prompt short enough to be computed by this very step.
  const auto [begin, end] = GroupRange(*group);
  RefreshPrivateBlocks(begin, end);
  if (group->num_reserved_slots > 0) {
    const RunningSequence& entry = running_[begin];
    if (entry.num_tokens > entry.num_prefill_tokens) {
      prefilled_.push_back(&*first);
    }
  }
  return true;
}

bool EngineCore::Place(Sequence* seq, int32_t* budget, InFlightStep* step) {
  SequenceGroup* group = seq->group;
  CHECK(!free_slots_.empty());
  const SlotId slot = free_slots_.back();
  KvAdmission admission = AdmissionOf(*seq);
  // The manager asks no more of it than what it does not find.
  int32_t num_tokens = std::min(*budget, seq->num_tokens());
  if (window_ > 0) {
    int32_t num_reusable = 0;
    if (seq->publishes || seq->parked) {
      num_reusable = kv_->FindReusable(admission).num_computed_tokens;
    }
    num_tokens = std::min(
        {num_tokens, seq->num_tokens() - num_reusable, MaxChunk(num_reusable)});
  }
  admission.num_new_tokens = std::max(
      num_tokens, kv_->AdmissionTokens(seq->num_tokens(), seq->max_num_tokens));
  AdmittedSlot admitted;
  const size_t num_swap_ins = plan_.swap_ins.size();
  if (!kv_->Admit(slot, admission, &admitted, &plan_).ok()) return false;
  const int32_t num_found = admitted.num_computed_tokens;
  num_tokens = std::min(num_tokens, seq->num_tokens() - num_found);
  seq->parked = false;
  free_slots_.pop_back();
  slots_[slot.value()] = seq;
  seq->slot = slot;
  seq->has_slot = true;
  if (!group->was_scheduled() && seq->publishes) {
    group->num_cached_tokens = num_found;
    metrics_.counters.num_cache_query_tokens += seq->num_prompt_tokens;
    metrics_.counters.num_cache_hit_tokens += num_found;
    // One that was never parked gets whole blocks of prefixes.
    metrics_.counters.num_host_hit_tokens +=
        static_cast<int64_t>(plan_.swap_ins.size() - num_swap_ins) *
        kv_->block_size();
  }

  RunningSequence entry = RunningEntryOf(*seq);
  entry.num_computed_tokens = num_found;
  entry.num_blocks = kv_->NumBlocks(slot);
  entry.num_dropped_blocks =
      FirstSeenToken(num_found, window_) / kv_->block_size();
  entry.num_private_blocks = kv_->NumPrivateBlocks({&slot, 1});
  DescribeSequence(*seq, &admitted);
  plan_.admitted.push_back(std::move(admitted));
  if (num_tokens > 0) {
    AddSlice(&entry, num_tokens, step);
    *budget -= num_tokens;
  }
  SetMustAsk(kv_->MustCopy(slot, entry.num_computed_tokens), &entry);
  const auto place = std::upper_bound(
      running_.begin(), running_.end(), entry,
      [](const RunningSequence& a, const RunningSequence& b) {
        return std::tie(a.rank, a.arrival) < std::tie(b.rank, b.arrival);
      });
  running_.insert(place, entry);
  return true;
}

void EngineCore::PlaceLate(InFlightStep* step) {
  if (unplaced_.empty()) return;
  std::vector<std::pair<RequestKey, int32_t>> unplaced;
  std::swap(unplaced, unplaced_);
  for (const auto& [key, index] : unplaced) {
    const auto it = groups_.find(key);
    if (it == groups_.end()) continue;
    SequenceGroup* group = it->second.get();
    Sequence* seq = &group->sequences[index];
    if (group->state != SequenceGroup::State::kRunning || seq->finished ||
        seq->has_slot) {
      continue;  // ended, or waits again
    }
    int32_t budget = 0;  // its turn comes in the next step
    if (!Place(seq, &budget, step)) {
      unplaced_.push_back({key, index});
      continue;
    }
    --group->num_reserved_slots;
    --num_reserved_slots_;
    const auto [begin, end] = GroupRange(*group);
    RefreshPrivateBlocks(begin, end);
  }
}

}  // namespace quire
