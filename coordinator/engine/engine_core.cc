// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/engine_core.h"

#include <algorithm>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/engine/new_group.h"
#include "coordinator/engine/prefix_demotion.h"
#include "coordinator/kv/kv_manager_registry.h"
#include "coordinator/scheduler/policy_registry.h"
#include "glog/logging.h"

namespace quire {
namespace {

KvOptions MakeKvOptions(const EngineOptions& options, const GroupReady& group,
                        const PreemptionRates& rates, PrefixSummary* prefixes) {
  const int32_t block_size =
      group.block_size > 0 ? group.block_size : options.block_size;
  // Without the prefix cache only siblings find prefixes, while they last.
  const bool demotes =
      options.enable_prefix_caching &&
      DemotesPrefixes(options.demote_prefixes, rates, block_size);
  return {.num_blocks = group.num_blocks,
          .block_size = block_size,
          .max_num_seqs = options.max_num_seqs,
          .max_model_len = options.max_model_len,
          .num_host_blocks = group.num_host_blocks,
          .demote_prefixes = demotes,
          .prefix_summary = prefixes};
}

}  // namespace

absl::StatusOr<std::unique_ptr<EngineCore>> EngineCore::Create(
    const EngineOptions& options, PrefixSummary* prefixes) {
  QUIRE_RETURN_IF_ERROR(ValidateEngineOptions(options));
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<SchedulingPolicy> policy,
                         MakeSchedulingPolicy(options.scheduling_policy));
  // The pool's size is the workers' to say; the rest can be refused now.
  GroupReady smallest;
  smallest.num_blocks = 1;
  QUIRE_ASSIGN_OR_RETURN(
      const std::unique_ptr<KvManager> manager,
      MakeKvManager(options.kv_manager,
                    MakeKvOptions(options, smallest, {}, nullptr)));
  if (!policy->preempts() && !manager->reserves()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--scheduling_policy=", options.scheduling_policy,
        " preempts nobody, but with --kv_manager=", options.kv_manager,
        " those that run may run out of memory; it works with orca_max, "
        "orca_pow2 and orca_oracle"));
  }
  return std::unique_ptr<EngineCore>(
      new EngineCore(options, std::move(policy), prefixes));
}

EngineCore::EngineCore(const EngineOptions& options,
                       std::unique_ptr<SchedulingPolicy> policy,
                       PrefixSummary* prefixes)
    : options_(options),
      policy_(std::move(policy)),
      prefixes_(prefixes),
      waiting_(options.tenants, options.priority_ageing,
               policy_->shares_by_tenant()) {}

EngineCore::~EngineCore() = default;

void EngineCore::AddRequest(RequestKey key, EngineRequest request,
                            absl::Time now) {
  const std::string tenant = request.tenant;
  std::unique_ptr<SequenceGroup> owned =
      NewGroup(options_, key, std::move(request));
  SequenceGroup* group = owned.get();
  group->arrival = ++last_arrival_;
  group->arrival_time = now;
  const Sequence& first = group->sequences.front();
  for (Sequence& seq : group->sequences) {
    seq.id = SequenceId(++last_sequence_id_);
  }
  metrics_.counters.num_prompt_tokens += first.num_prompt_tokens;
  CHECK(groups_.emplace(key, std::move(owned)).second);
  waiting_.Register(group, tenant, is_ready(), now);
  Requeue(group);
  if (group->deadline != absl::InfiniteFuture()) {
    deadlines_.insert({group->deadline, key});
  }
  // It was accepted for a pool that may be gone by now.
  if (!is_ready() && options_.on_group_lost == OnGroupLostAction::kFail) {
    EndGroup(group, FinishReason::kNone,
             absl::UnavailableError("no worker group is ready; retry"), now);
  } else if (is_ready()) {
    const absl::Status fits =
        CheckFitsAlone(options_, kv_->Usage().num_blocks,
                       first.num_prompt_tokens, group->sampling.max_tokens,
                       kv_->block_size(), NumSequences(group->sampling));
    const absl::Status in_time = CheckDeadline(*group, now);
    if (!fits.ok()) {
      EndGroup(group, FinishReason::kNone,
               absl::UnavailableError(std::string(fits.message())), now);
    } else if (!in_time.ok()) {
      EndGroup(group, FinishReason::kNone, in_time, now);
    }
  }
  SweepEnded();
}

absl::Status EngineCore::CheckDeadline(const SequenceGroup& group,
                                       absl::Time now) {
  if (group.deadline == absl::InfiniteFuture()) return absl::OkStatus();
  // One that nothing can stop yields all that it may.
  const SamplingParams& sampling = group.sampling;
  const bool may_stop = !sampling.stop_token_ids.empty() ||
                        !sampling.stop.empty() || sampling.beam_width > 0;
  const int32_t num_outputs =
      may_stop ? std::max(1, sampling.slot.min_tokens) : sampling.max_tokens;
  // What it would find computed is left out, and a sequence's tokens are the
  // least that it computes.
  const int32_t num_tokens =
      std::min(waiting_.Find(group)->num_tokens,
               group.sequences.front().num_prompt_tokens);
  const absl::Duration needed = estimator_.LeastTime(num_tokens, num_outputs);
  if (now + needed <= group.deadline) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(
      "the request needs about ", absl::ToInt64Milliseconds(needed),
      " ms alone (", num_tokens, " prompt tokens to compute, at least ",
      num_outputs, " output tokens) and has ",
      std::max<int64_t>(0, absl::ToInt64Milliseconds(group.deadline - now)),
      " ms; give it a later deadline or less to do"));
}

void EngineCore::FinishRequest(RequestKey key, FinishReason reason,
                               absl::Time now) {
  const auto it = groups_.find(key);
  if (it == groups_.end()) return;
  EndGroup(it->second.get(), reason, absl::OkStatus(), now);
  SweepEnded();
}

void EngineCore::FinishSequence(RequestKey key, int32_t index, absl::Time now) {
  const auto it = groups_.find(key);
  if (it == groups_.end()) return;
  std::vector<Sequence>& sequences = it->second->sequences;
  if (index < 0 || index >= static_cast<int32_t>(sequences.size())) return;
  if (it->second->beams != nullptr) return;  // they end together
  Sequence* seq = &sequences[index];
  if (seq->finished) return;
  seq->finished = true;
  EndSequence(seq, FinishReason::kStop, now);
  SweepEnded();
}

void EngineCore::EndAll(const absl::Status& status, absl::Time now) {
  std::vector<SequenceGroup*> all;
  for (const auto& [key, group] : groups_) all.push_back(group.get());
  std::sort(all.begin(), all.end(), [](const auto* a, const auto* b) {
    return a->arrival < b->arrival;
  });
  for (SequenceGroup* group : all) {
    EndGroup(group, FinishReason::kNone, status, now);
  }
  SweepEnded();
}

absl::Status EngineCore::OnGroupReady(const GroupReady& group, absl::Time now) {
  if (is_ready()) {
    OnGroupLost(last_step_.group_epoch,
                absl::UnavailableError("another group epoch began"), now);
  }
  const PreemptionRates rates = {
      .swap_blocks = group.swap_blocks_per_second,
      .prefill_tokens = group.prefill_tokens_per_second};
  absl::StatusOr<std::unique_ptr<KvManager>> kv = MakeKvManager(
      options_.kv_manager, MakeKvOptions(options_, group, rates, prefixes_));
  if (!kv.ok()) {
    return loss_ = absl::InternalError(std::string(kv.status().message()));
  }
  kv_ = *std::move(kv);
  SetWindow(group.num_blocks);
  rates_ = rates;
  last_table_digest_ = kv_->table_digest();
  last_step_ = {.coordinator_epoch = group.coordinator_epoch,
                .group_epoch = group.group_epoch,
                .step_id = StepId(0)};
  last_forced_step_ = 0;
  slots_.assign(options_.max_num_seqs, nullptr);
  free_slots_.clear();
  for (int32_t slot = options_.max_num_seqs - 1; slot >= 0; --slot) {
    free_slots_.push_back(SlotId(slot));
  }
  waiting_.SetPool(group.num_blocks, now);
  // Those that waited through the loss may not fit the new pool.
  std::map<int64_t, std::pair<SequenceGroup*, absl::Status>> misfits;
  for (const auto& [key, waiting] : groups_) {
    SettleWaiting(waiting.get());
    const absl::Status fits = CheckFitsAlone(
        options_, group.num_blocks, waiting->sequences[0].num_prompt_tokens,
        waiting->sampling.max_tokens, kv_->block_size(),
        NumSequences(waiting->sampling));
    if (!fits.ok()) misfits[waiting->arrival] = {waiting.get(), fits};
  }
  for (const auto& [arrival, misfit] : misfits) {
    EndGroup(misfit.first, FinishReason::kNone,
             absl::UnavailableError(std::string(misfit.second.message())), now);
  }
  SweepEnded();
  return absl::OkStatus();
}

void EngineCore::ReleaseSlot(Sequence* seq) {
  if (!seq->has_slot) return;
  kv_->Release(seq->slot);
  VacateSlot(seq);
}

void EngineCore::VacateSlot(Sequence* seq) {
  // Workers do not know of a slot whose fork they were not told.
  if (!CancelFork(seq->slot)) released_.push_back(seq->slot);
  const auto is_its = [seq](const NextToken& n) { return n.slot == seq->slot; };
  next_tokens_.erase(
      std::remove_if(next_tokens_.begin(), next_tokens_.end(), is_its),
      next_tokens_.end());
  free_slots_.push_back(seq->slot);
  slots_[seq->slot.value()] = nullptr;
  seq->has_slot = false;
  running_has_gaps_ = true;
  hints_are_stale_ = true;
  for (const InFlightStep& step : in_flight_) {
    seq->num_in_flight +=
        std::count(step.samples.begin(), step.samples.end(), seq);
  }
}

void EngineCore::ForgetParked(Sequence* seq) {
  if (!seq->parked) return;
  kv_->Forget(seq->id);
  seq->parked = false;
  hints_are_stale_ = true;
}

void EngineCore::DropReservedSlots(SequenceGroup* group) {
  num_reserved_slots_ -= std::exchange(group->num_reserved_slots, 0);
}

void EngineCore::Requeue(SequenceGroup* group) {
  group->state = SequenceGroup::State::kWaiting;
  DropReservedSlots(group);
  for (Sequence& seq : group->sequences) ReleaseSlot(&seq);
  waiting_.Insert(*group, {.preempted = group->was_scheduled()});
  SettleWaiting(group);
}

void EngineCore::LeaveQueue(SequenceGroup* group) {
  if (group->was_scheduled()) return;
  ++effects_.num_left_queue;
  effects_.num_tokens_left_queue += group->sequences[0].num_prompt_tokens;
}

void EngineCore::EndGroup(SequenceGroup* group, FinishReason reason,
                          const absl::Status& status, absl::Time now) {
  if (group->state == SequenceGroup::State::kWaiting) {
    waiting_.Erase(*group);
    LeaveQueue(group);
  }
  waiting_.Unregister(*group, now);
  group->state = SequenceGroup::State::kEnded;
  DropReservedSlots(group);
  for (Sequence& seq : group->sequences) {
    seq.finished = true;
    ReleaseSlot(&seq);
    ForgetParked(&seq);
  }
  if (!status.ok()) {
    SequenceOutput& output = effects_.outputs.emplace_back();
    output.request = group->key;
    output.token_offset = group->sequences[0].num_output_tokens();
    output.status = status;
  }
  int32_t num_output_tokens = 0;
  for (const Sequence& each : group->sequences) {
    num_output_tokens += each.num_output_tokens();
  }
  effects_.ended.push_back({group->key, group->request_id, num_output_tokens});
  deadlines_.erase({group->deadline, group->key});
  RecordEnd(*group, reason, status, num_output_tokens, now);
  const auto it = groups_.find(group->key);
  ended_.push_back(std::move(it->second));
  groups_.erase(it);
}

void EngineCore::RecordEnd(const SequenceGroup& group, FinishReason reason,
                           const absl::Status& status,
                           int32_t num_output_tokens, absl::Time now) {
  EngineCounters& counters = metrics_.counters;
  if (status.code() == absl::StatusCode::kDeadlineExceeded) {
    ++counters.num_deadline_exceeded;
  } else if (!status.ok()) {
    ++counters.num_failed;
  } else if (reason == FinishReason::kCancelled) {
    ++counters.num_cancelled;
  } else if (reason == FinishReason::kLength) {
    ++counters.num_finished_length;
  } else {
    ++counters.num_finished_stop;
  }
  if (metrics_.requests.size() >= kMaxSamples) {
    ++metrics_.num_dropped_samples;
    return;
  }
  const Sequence& seq = group.sequences[0];
  metrics_.requests.push_back({.key = group.key,
                               .arrival = group.arrival_time,
                               .first_scheduled = group.first_scheduled_time,
                               .first_token = group.first_token_time,
                               .end = now,
                               .num_prompt_tokens = seq.num_prompt_tokens,
                               .num_output_tokens = num_output_tokens,
                               .num_preemptions = group.num_preemptions,
                               .finish_reason = reason,
                               .code = status.code()});
}

void EngineCore::SweepEnded() {
  if (ended_.empty()) return;
  const auto gone = std::remove_if(
      ended_.begin(), ended_.end(),
      [](const auto& group) { return group->num_in_flight() == 0; });
  ended_.erase(gone, ended_.end());
}

EngineMetrics EngineCore::TakeMetrics() {
  EngineMetrics taken = std::exchange(metrics_, {});
  metrics_.counters = taken.counters;
  metrics_.num_dropped_samples = taken.num_dropped_samples;
  return taken;
}

EngineStats EngineCore::Stats() const {
  EngineStats stats;
  stats.num_waiting = static_cast<int32_t>(waiting_.size());
  stats.num_running = static_cast<int32_t>(groups_.size()) - stats.num_waiting;
  if (is_ready()) {
    const KvUsage usage = kv_->Usage();
    stats.num_blocks = usage.num_blocks;
    stats.num_free_blocks = usage.num_free;
    stats.num_cached_blocks = usage.num_cached;
    stats.num_host_blocks = usage.num_host_blocks;
    stats.num_free_host_blocks = usage.num_free_host_blocks;
    stats.num_host_prefix_blocks = usage.num_host_prefix_blocks;
  }
  const EngineCounters& counters = metrics_.counters;
  stats.num_preemptions = counters.num_preemptions;
  stats.num_finished =
      counters.num_finished_stop + counters.num_finished_length;
  stats.num_generated_tokens = counters.num_generated_tokens;
  stats.num_prompt_tokens = counters.num_prompt_tokens;
  stats.prefill_tokens_per_s = estimator_.prefill_tokens_per_s() > 0
                                   ? estimator_.prefill_tokens_per_s()
                                   : rates_.prefill_tokens;
  stats.decode_step_us = estimator_.decode_step_us();
  stats.last_step = last_step_.step_id;
  stats.ready = is_ready();
  return stats;
}

absl::Status EngineCore::CheckInvariants() const {
  if (!is_ready()) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(kv_->CheckInvariants());
  const KvUsage usage = kv_->Usage();
  if (usage.num_free + usage.num_cached + usage.num_held != usage.num_blocks ||
      (groups_.empty() && usage.num_held != 0)) {
    return absl::InternalError(absl::StrCat(
        usage.num_free, " free, ", usage.num_cached, " cached and ",
        usage.num_held, " held of ", usage.num_blocks, " KV blocks, with ",
        groups_.size(), " requests"));
  }
  QUIRE_RETURN_IF_ERROR(CheckRunning());
  const auto num_taken =
      std::count_if(slots_.begin(), slots_.end(),
                    [](const Sequence* seq) { return seq != nullptr; });
  if (num_taken + free_slots_.size() != slots_.size()) {
    return absl::InternalError(absl::StrCat(num_taken, " slots taken and ",
                                            free_slots_.size(), " free of ",
                                            slots_.size()));
  }
  return absl::OkStatus();
}

absl::Status EngineCore::CheckRunning() const {
  for (const RunningSequence& entry : running_) {
    const Sequence* seq = slots_[entry.slot.value()];
    if (seq == nullptr && running_has_gaps_) continue;  // it has just left
    if (seq == nullptr || seq->group->arrival != entry.arrival ||
        std::count_if(running_.begin(), running_.end(),
                      [&](const RunningSequence& other) {
                        return other.slot == entry.slot;
                      }) > 1) {
      return absl::InternalError(absl::StrCat(
          "slot ", entry.slot.value(), " of arrival ",
          seq == nullptr ? 0 : seq->group->arrival, " has an entry of arrival ",
          entry.arrival, ", or several"));
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
