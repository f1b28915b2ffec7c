// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/simulation.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "coordinator/engine/engine_core.h"
#include "glog/logging.h"
#include "tools/simulator/means.h"
#include "tools/simulator/modelled_workers.h"

namespace quire {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
constexpr int64_t kStepsPerHarvest = 16;
constexpr int64_t kVocabSize = 20100;

absl::Time At(int64_t now_ns) {
  return absl::UnixEpoch() + absl::Nanoseconds(now_ns);
}

// One run.
class Simulation {
 public:
  Simulation(const SimulationOptions& options,
             const std::vector<SimulatedRequest>& requests,
             std::unique_ptr<EngineCore> core)
      : options_(options),
        requests_(requests),
        core_(std::move(core)),
        workers_(&requests, options.engine.max_num_seqs,
                 options.engine.block_size, options.candidates),
        means_(options.engine.block_size) {
    if (!requests.empty()) last_arrival_ns_ = requests.back().arrival_ns;
    window_begin_ns_ = static_cast<int64_t>(options.warmup * last_arrival_ns_);
  }

  absl::StatusOr<SimulationResult> Run();

 private:
  struct Pending {
    StepResult result;
    int64_t end_ns = 0;
  };

  absl::Status BeginGroup();
  void AddArrivals();
  void PlanAhead();
  void Observe(const StepPlan& plan, const StepWork& work, int64_t begin_ns,
               int64_t end_ns);
  void Harvest();
  void AnswerBatch();
  absl::Status CheckBooks() const;
  const std::string& TenantOf(const RequestSample& sample) const {
    return requests_[sample.key.value() - 1].tenant;
  }
  void FillServed();
  SimulationResult Finish();

  const SimulationOptions& options_;
  const std::vector<SimulatedRequest>& requests_;
  const std::unique_ptr<EngineCore> core_;
  ModelledWorkers workers_;
  RunMeans means_;
  std::deque<Pending> pending_;
  size_t num_arrived_ = 0;
  int64_t now_ns_ = 0;
  int64_t device_free_ns_ = 0;
  int64_t last_arrival_ns_ = 0;
  int64_t window_begin_ns_ = 0;
  int64_t num_results_ = 0;
  int64_t busy_ns_ = 0;
  std::vector<RequestSample> unanswered_;  // ended before their batch
  SimulationResult result_;
};

absl::Status Simulation::BeginGroup() {
  const CostModel& cost = options_.cost;
  const int32_t block_size = options_.engine.block_size;
  const int32_t num_blocks = options_.num_blocks > 0
                                 ? options_.num_blocks
                                 : NumBlocks(cost, block_size);
  const int32_t num_host_blocks = options_.num_host_blocks > 0
                                      ? options_.num_host_blocks
                                      : NumHostBlocks(cost, block_size);
  const GroupReady group = {
      .coordinator_epoch = Epoch(1),
      .group_epoch = Epoch(1),
      .num_blocks = num_blocks,
      .num_host_blocks = num_host_blocks,
      .swap_blocks_per_second = SwapBlocksPerSecond(cost, block_size),
      .prefill_tokens_per_second = PrefillTokensPerSecond(cost)};
  if (options_.observer) options_.observer->OnGroupReady(group, At(0));
  return core_->OnGroupReady(group, At(0));
}

void Simulation::AddArrivals() {
  while (num_arrived_ < requests_.size() &&
         requests_[num_arrived_].arrival_ns <= now_ns_) {
    const int64_t idx = static_cast<int64_t>(num_arrived_++);
    const SimulatedRequest& request = requests_[idx];
    EngineRequest engine_request;
    engine_request.request_id = absl::StrCat(idx);
    engine_request.prompt = MakePrompt(request, idx, kVocabSize);
    engine_request.use_prefix_cache = options_.prefix_cache;
    engine_request.tenant = request.tenant;
    SamplingParams& sampling = engine_request.sampling;
    sampling.slot.seed = static_cast<uint64_t>(idx);
    sampling.max_tokens = request.output_len;
    sampling.n = request.num_sequences;
    sampling.best_of = request.num_sequences;
    if (request.beam_width > 0) {
      sampling.beam_width = request.beam_width;
      sampling.n = request.beam_width;
      sampling.best_of = request.beam_width;
    }
    const RequestKey key(idx + 1);
    const absl::Time arrival = At(request.arrival_ns);
    if (options_.observer) {
      options_.observer->OnRequest(key, engine_request, arrival);
    }
    core_->AddRequest(key, std::move(engine_request), arrival);
  }
}

void Simulation::PlanAhead() {
  while (true) {
    const StepPlan* plan = core_->Plan(At(now_ns_));
    if (options_.observer) options_.observer->OnPlan(plan, At(now_ns_));
    if (plan == nullptr) return;
    Pending& step = pending_.emplace_back();
    StepWork work;
    workers_.Run(*plan, &step.result, &work);
    step.result.table_digest = core_->table_digest();
    const double seconds =
        work.num_tokens == 0 && work.num_swapped_blocks == 0
            ? 0
            : StepSeconds(options_.cost, work, options_.engine.block_size,
                          options_.contiguous_kv);
    const int64_t begin_ns = std::max(now_ns_, device_free_ns_);
    step.end_ns = begin_ns + static_cast<int64_t>(seconds * 1e9);
    step.result.step_us = static_cast<int32_t>(seconds * 1e6);
    device_free_ns_ = step.end_ns;
    Observe(*plan, work, begin_ns, step.end_ns);
  }
}

void Simulation::Observe(const StepPlan& plan, const StepWork& work,
                         int64_t begin_ns, int64_t end_ns) {
  busy_ns_ += end_ns - begin_ns;
  CountWork(plan, &result_);
  const bool counts =
      begin_ns >= window_begin_ns_ && begin_ns <= last_arrival_ns_;
  means_.Add(counts ? (end_ns - begin_ns) / 1e9 : 0, core_->Stats(),
             workers_.totals(), work);
}

void Simulation::Harvest() {
  const EngineMetrics metrics = core_->TakeMetrics();
  for (const RequestSample& sample : metrics.requests) {
    if (sample.code != absl::StatusCode::kOk) {
      ++result_.num_failed;
      continue;
    }
    ++result_.num_finished;
    if (options_.answers_by_batch) {
      unanswered_.push_back(sample);
    } else {
      means_.AddRequest(sample, TenantOf(sample));
    }
  }
  result_.counters = metrics.counters;
}

void Simulation::AnswerBatch() {
  Harvest();
  for (RequestSample& sample : unanswered_) {
    sample.first_token = At(now_ns_);
    sample.end = At(now_ns_);
    means_.AddRequest(sample, TenantOf(sample));
  }
  unanswered_.clear();
}

absl::Status Simulation::CheckBooks() const {
  if (core_->is_idle() || options_.stop_at_last_arrival) {
    return core_->CheckInvariants();
  }
  const EngineStats stats = core_->Stats();
  return absl::InternalError(absl::StrCat(
      "nothing runs, yet ", stats.num_running, " requests are running and ",
      stats.num_waiting, " waiting with ", stats.num_free_blocks, " of ",
      stats.num_blocks, " blocks free"));
}

SimulationResult Simulation::Finish() {
  AnswerBatch();
  result_.num_requests = static_cast<int64_t>(num_arrived_);
  result_.duration_s = now_ns_ / 1e9;
  means_.Fill(&result_);
  FillServed();
  if (now_ns_ > 0) {
    result_.output_tokens_per_s =
        result_.counters.num_generated_tokens / result_.duration_s;
    result_.requests_per_s = result_.num_finished / result_.duration_s;
    result_.busy_share = std::min<double>(1, busy_ns_ / (now_ns_ + 0.0));
  }
  return std::move(result_);
}

void Simulation::FillServed() {
  EngineMetrics metrics;
  core_->FillWaitMetrics(&metrics);
  for (TenantResult& tenant : result_.tenants) {
    for (const TenantServed& served : metrics.tenants) {
      if (served.label != tenant.tenant) continue;
      tenant.num_prompt_tokens = served.num_prompt_tokens;
      tenant.num_output_tokens = served.num_output_tokens;
    }
  }
}

absl::StatusOr<SimulationResult> Simulation::Run() {
  QUIRE_RETURN_IF_ERROR(BeginGroup());
  while (true) {
    const int64_t next_arrival = num_arrived_ < requests_.size()
                                     ? requests_[num_arrived_].arrival_ns
                                     : kNever;
    const int64_t next_result =
        pending_.empty() ? kNever : pending_.front().end_ns;
    if (next_arrival == kNever && next_result == kNever) break;
    if (options_.stop_at_last_arrival && next_arrival == kNever) break;
    if (next_arrival <= next_result) {
      now_ns_ = next_arrival;
      AddArrivals();
    } else {
      now_ns_ = next_result;
      const absl::Time now = At(now_ns_);
      StepResult& result = pending_.front().result;
      if (options_.observer) options_.observer->OnStepResult(result, now);
      core_->OnStepResult(std::move(result), now);
      pending_.pop_front();
      if (++num_results_ % kStepsPerHarvest == 0) Harvest();
      if (options_.answers_by_batch && core_->Stats().num_running == 0) {
        AnswerBatch();
      }
      if (options_.invariants_period > 0 &&
          num_results_ % options_.invariants_period == 0) {
        QUIRE_RETURN_IF_ERROR(core_->CheckInvariants());
      }
    }
    PlanAhead();
    core_->TakeEffects();
  }
  QUIRE_RETURN_IF_ERROR(CheckBooks());
  return Finish();
}

}  // namespace

void CountWork(const StepPlan& plan, SimulationResult* result) {
  result->num_swapped_out_blocks += static_cast<int64_t>(plan.swap_outs.size());
  result->num_swapped_in_blocks += static_cast<int64_t>(plan.swap_ins.size());
  result->num_copied_blocks += static_cast<int64_t>(plan.copies.size());
  for (const AdmittedSlot& admitted : plan.admitted) {
    result->num_cached_tokens += admitted.num_computed_tokens;
  }
}

absl::StatusOr<SimulationResult> Simulate(
    const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests) {
  const auto begin = std::chrono::steady_clock::now();
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<EngineCore> core,
                         EngineCore::Create(options.engine));
  Simulation simulation(options, requests, std::move(core));
  QUIRE_ASSIGN_OR_RETURN(SimulationResult result, simulation.Run());
  result.wall_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
          .count();
  return result;
}

}  // namespace quire
