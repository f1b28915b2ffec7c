// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/group_router.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/engine/new_group.h"
#include "coordinator/routing/prefix_match.h"
#include "glog/logging.h"

namespace quire {

GroupRouter::GroupRouter(const EngineOptions& options, int32_t num_groups,
                         RoutingPolicy policy)
    : options_(options),
      policy_(policy),
      ready_(num_groups, false),
      requests_(num_groups) {
  CHECK_GT(num_groups, 1);
  for (int32_t i = 0; i < num_groups; ++i) {
    prefixes_.push_back(std::make_unique<PrefixSummary>());
  }
}

EngineSeat GroupRouter::seat(int32_t group_idx) {
  return {.engine_idx = group_idx,
          .num_engines = num_groups(),
          .watcher = this,
          .prefixes = prefixes_[group_idx].get()};
}

void GroupRouter::SetEngines(std::vector<EngineLoop*> engines) {
  CHECK_EQ(engines.size(), prefixes_.size());
  engines_ = std::move(engines);
}

std::vector<int32_t> GroupRouter::FindCached(
    CacheScope scope, absl::Span<const TokenId> prompt) const {
  const std::vector<BlockKey> keys =
      PrefixKeys(scope, prompt, options_.block_size);
  std::vector<int32_t> num_cached;
  for (const auto& prefixes : prefixes_) {
    num_cached.push_back(CountCachedTokens(
        prefixes->Read(), keys, static_cast<int32_t>(prompt.size()),
        options_.block_size, options_.sliding_window));
  }
  return num_cached;
}

std::vector<EngineStats> GroupRouter::GroupStats() const {
  std::vector<EngineStats> stats;
  for (const EngineLoop* engine : engines_) stats.push_back(engine->Stats());
  return stats;
}

RouteView GroupRouter::MakeView(const Demand& demand,
                                const std::vector<int32_t>& num_cached,
                                const std::vector<EngineStats>& stats) const {
  RouteView view;
  view.num_prompt_tokens = demand.num_tokens;
  view.num_seqs = demand.num_seqs;
  view.max_num_seqs = options_.max_num_seqs;
  view.max_num_batched_tokens = options_.max_num_batched_tokens;
  view.block_size = options_.block_size;
  view.mean_output_tokens = requests_.mean_output_tokens();
  for (int32_t i = 0; i < num_groups(); ++i) {
    const RoutedRequests::Load& load = requests_.load(i);
    view.groups.push_back(
        {.is_ready = IsReady(i, stats),
         .fits = engines_[i]
                     ->CheckFits(demand.num_prompt_tokens, demand.max_tokens,
                                 demand.num_seqs)
                     .ok(),
         .num_decodes = load.num_decodes,
         .num_pending_seqs = load.num_pending_seqs,
         .num_pending_tokens = load.num_pending_tokens,
         .num_blocks = stats[i].num_blocks,
         .num_free_blocks =
             stats[i].num_free_blocks + stats[i].num_cached_blocks,
         .num_cached_tokens = num_cached[i],
         .num_routed = load.num_routed,
         .prefill_tokens_per_s = stats[i].prefill_tokens_per_s,
         .decode_step_us = stats[i].decode_step_us});
  }
  return view;
}

absl::Status GroupRouter::CheckQueue(const std::vector<EngineStats>& stats,
                                     int64_t num_prompt_tokens) const {
  int64_t num_queued = 0;
  int64_t num_tokens = 0;
  for (const EngineStats& each : stats) {
    num_queued += each.num_queued;
    num_tokens += each.num_queued_tokens;
  }
  if (num_queued >= options_.max_queued_requests) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the queue is full: ", num_queued, " requests wait, the limit is ",
        options_.max_queued_requests));
  }
  if (num_tokens + num_prompt_tokens > options_.max_queued_tokens) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: prompts of ", num_tokens,
                     " tokens wait and this one has ", num_prompt_tokens,
                     ", the limit is ", options_.max_queued_tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<RequestKey> GroupRouter::Submit(EngineRequest request) {
  const std::vector<int32_t> num_cached =
      FindCached(SharedScopeOf(options_, request), request.prompt);
  const auto num_tokens = static_cast<int32_t>(request.prompt.size());
  const int32_t num_seqs = NumSequences(request.sampling);
  const std::string request_id = request.request_id;

  absl::MutexLock lock(&mutex_);
  if (requests_.Find(request_id).has_value()) {
    return absl::AlreadyExistsError(
        absl::StrCat("request ", request_id, " is running"));
  }
  const std::vector<EngineStats> stats = GroupStats();
  QUIRE_RETURN_IF_ERROR(CheckQueue(stats, num_tokens));
  const Demand demand = {.num_tokens = num_tokens,
                         .num_prompt_tokens = num_tokens,
                         .max_tokens = request.sampling.max_tokens,
                         .num_seqs = num_seqs};
  // With none ready, the first one says why.
  const int32_t group_idx =
      std::max(0, ChooseGroup(MakeView(demand, num_cached, stats), policy_));
  QUIRE_ASSIGN_OR_RETURN(const RequestKey key,
                         engines_[group_idx]->Submit(std::move(request)));
  requests_.Add(key, request_id, group_idx, num_tokens - num_cached[group_idx],
                num_seqs);
  return key;
}

EngineLoop* GroupRouter::EngineOf(RequestKey key) const {
  const std::optional<int32_t> group_idx = requests_.GroupOf(key);
  return group_idx.has_value() ? engines_[*group_idx] : nullptr;
}

void GroupRouter::Finish(RequestKey request, FinishReason reason) {
  absl::MutexLock lock(&mutex_);
  if (EngineLoop* engine = EngineOf(request)) engine->Finish(request, reason);
}

void GroupRouter::FinishSequence(RequestKey request, int32_t index) {
  absl::MutexLock lock(&mutex_);
  if (EngineLoop* engine = EngineOf(request)) {
    engine->FinishSequence(request, index);
  }
}

void GroupRouter::SetMask(RequestKey request, int32_t index,
                          int64_t num_outputs, TokenMask mask) {
  absl::MutexLock lock(&mutex_);
  if (EngineLoop* engine = EngineOf(request)) {
    engine->SetMask(request, index, num_outputs, std::move(mask));
  }
}

absl::StatusOr<RequestKey> GroupRouter::Find(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  if (const auto key = requests_.Find(request_id)) return *key;
  return absl::NotFoundError(
      absl::StrCat("no running request has the id ", request_id));
}

absl::StatusOr<Timeline> GroupRouter::Explain(const std::string& request_id) {
  {
    EngineLoop* engine = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (const auto key = requests_.Find(request_id)) engine = EngineOf(*key);
    }
    // It may have ended or moved meanwhile.
    if (engine != nullptr) {
      absl::StatusOr<Timeline> timeline = engine->Explain(request_id);
      if (timeline.ok()) return timeline;
    }
  }
  absl::StatusOr<Timeline> latest;
  for (EngineLoop* engine : engines_) {
    absl::StatusOr<Timeline> timeline = engine->Explain(request_id);
    if (!timeline.ok()) {
      if (!latest.ok()) latest = timeline.status();
    } else if (!latest.ok() || timeline->end > latest->end) {
      latest = std::move(timeline);
    }
  }
  return latest;
}

EngineInfo GroupRouter::Info() const {
  EngineInfo sum = engines_[0]->Info();
  sum.num_blocks = 0;
  for (const EngineStats& each : GroupStats())
    sum.num_blocks += each.num_blocks;
  return sum;
}

EngineStats GroupRouter::Stats() const {
  EngineStats sum;
  for (const EngineStats& each : GroupStats()) {
    sum.num_running += each.num_running;
    sum.num_waiting += each.num_waiting;
    sum.num_blocks += each.num_blocks;
    sum.num_free_blocks += each.num_free_blocks;
    sum.num_cached_blocks += each.num_cached_blocks;
    sum.num_host_blocks += each.num_host_blocks;
    sum.num_free_host_blocks += each.num_free_host_blocks;
    sum.num_host_prefix_blocks += each.num_host_prefix_blocks;
    sum.num_preemptions += each.num_preemptions;
    sum.num_finished += each.num_finished;
    sum.num_generated_tokens += each.num_generated_tokens;
    sum.num_prompt_tokens += each.num_prompt_tokens;
    sum.num_queued += each.num_queued;
    sum.num_queued_tokens += each.num_queued_tokens;
    sum.prefill_tokens_per_s += each.prefill_tokens_per_s;
    sum.decode_step_us = std::max(sum.decode_step_us, each.decode_step_us);
    sum.last_step = std::max(sum.last_step, each.last_step);
    sum.ready |= each.ready;
  }
  return sum;
}

void GroupRouter::OnReadiness(int32_t engine_idx, bool is_ready) {
  absl::MutexLock lock(&mutex_);
  ready_[engine_idx] = is_ready;
  if (!is_ready) return;
  for (int32_t i = 0; i < num_groups(); ++i) {
    if (!ready_[i]) engines_[i]->HandOver();
  }
}

void GroupRouter::OnProgress(int32_t /*engine_idx*/,
                             absl::Span<const RequestKey> begun,
                             absl::Span<const RequestEnd> ended) {
  absl::MutexLock lock(&mutex_);
  for (const RequestKey key : begun) requests_.Begin(key);
  for (const RequestEnd& end : ended) {
    requests_.End(end.key, end.num_output_tokens);
  }
}

void GroupRouter::OnStranded(int32_t engine_idx, const absl::Status& cause,
                             std::vector<MovedGroup> groups) {
  absl::MutexLock lock(&mutex_);
  // Those that come must not be sent back.
  ready_[engine_idx] = false;
  const std::vector<EngineStats> stats = GroupStats();
  bool is_any_ready = false;
  for (int32_t i = 0; i < num_groups(); ++i) is_any_ready |= IsReady(i, stats);
  if (!is_any_ready) {
    engines_[engine_idx]->Adopt(std::move(groups), /*stay=*/true);
    if (options_.on_group_lost == OnGroupLostAction::kFail) {
      engines_[engine_idx]->EndAll(absl::UnavailableError(absl::StrCat(
          "worker lost: ", std::string(cause.message()), "; retry")));
    }
    return;
  }
  std::vector<std::vector<MovedGroup>> parts(num_groups());
  for (MovedGroup& moved : groups) {
    const SequenceGroup& group = *moved.group;
    const std::vector<TokenId>& tokens = group.sequences[0].tokens;
    const auto num_tokens = static_cast<int32_t>(tokens.size());
    const std::vector<int32_t> num_cached =
        FindCached(group.cache_scope, tokens);
    const Demand demand = {
        .num_tokens = num_tokens,
        .num_prompt_tokens = group.sequences[0].num_prompt_tokens,
        .max_tokens = group.sampling.max_tokens,
        .num_seqs = NumSequences(group.sampling)};
    const int32_t chosen =
        ChooseGroup(MakeView(demand, num_cached, stats), policy_);
    requests_.Move(group.key, chosen, num_tokens - num_cached[chosen]);
    parts[chosen].push_back(std::move(moved));
  }
  for (int32_t i = 0; i < num_groups(); ++i) {
    if (parts[i].empty()) continue;
    engines_[i]->Adopt(std::move(parts[i]), /*stay=*/false);
  }
}

// A request may be on its way back to the very engine, behind the message in
// its inbox; then the message goes behind it.
void GroupRouter::OnStray(int32_t /*engine_idx*/, RequestKey key,
                          absl::FunctionRef<void(EngineClient*)> repeat) {
  absl::MutexLock lock(&mutex_);
  if (EngineLoop* engine = EngineOf(key)) repeat(engine);
}

}  // namespace quire
