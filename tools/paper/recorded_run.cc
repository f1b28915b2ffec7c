// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/recorded_run.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "tools/replay/replayer.h"
#include "tools/simulator/means.h"
#include "tools/simulator/modelled_workers.h"

namespace quire {
namespace {

// What was held during a step.
struct Step {
  StepId id;
  absl::Time begin;
  absl::Time end;
  EngineStats stats;
  SlotTotals totals;
  StepWork work;
};

class RunWatcher final : public ReplayWatcher {
 public:
  RunWatcher(const SimulationOptions& options,
             const std::vector<SimulatedRequest>& requests)
      : options_(options),
        workers_(&requests, options.engine.max_num_seqs,
                 options.engine.block_size, options.candidates) {}

  void OnRequest(const EngineRequest& /*request*/, absl::Time now) override {
    if (result_.num_requests++ == 0) first_arrival_ = now;
    last_arrival_ = now;
  }

  void OnPlan(const StepPlan& plan, const EngineStats& stats,
              absl::Time now) override {
    Step step;
    step.id = plan.identity.step_id;
    step.begin = now;
    step.stats = stats;
    StepResult modelled;  // the workers' own is in the recording
    workers_.Run(plan, &modelled, &step.work);
    step.totals = workers_.totals();
    in_flight_.push_back(step);
    CountWork(plan, &result_);
  }

  void OnResult(StepId id, absl::Time now) override {
    // Whoever lost its group left steps behind.
    while (!in_flight_.empty() && in_flight_.front().id < id) {
      in_flight_.pop_front();
    }
    if (in_flight_.empty() || in_flight_.front().id != id) return;
    Step& step = in_flight_.front();
    step.begin = std::max(step.begin, last_result_);
    step.end = last_result_ = now;
    steps_.push_back(step);
    in_flight_.pop_front();
  }

  void OnEnded(const RequestSample& sample) override {
    samples_.push_back(sample);
  }

  SimulationResult Measure();

 private:
  const SimulationOptions& options_;
  ModelledWorkers workers_;
  SimulationResult result_;
  absl::Time first_arrival_ = absl::InfinitePast();
  absl::Time last_arrival_ = absl::InfinitePast();
  absl::Time last_result_ = absl::InfinitePast();
  std::deque<Step> in_flight_;
  std::vector<Step> steps_;
  std::vector<RequestSample> samples_;
};

SimulationResult RunWatcher::Measure() {
  const absl::Time end =
      options_.stop_at_last_arrival ? last_arrival_ : last_result_;
  const absl::Time window_begin =
      first_arrival_ + options_.warmup * (last_arrival_ - first_arrival_);
  RunMeans means(options_.engine.block_size);
  absl::Duration busy;
  for (const Step& step : steps_) {
    if (step.end <= end) busy += step.end - step.begin;
    const bool counts =
        step.begin >= window_begin && step.begin <= last_arrival_;
    means.Add(counts ? absl::ToDoubleSeconds(step.end - step.begin) : 0,
              step.stats, step.totals, step.work);
  }
  int64_t num_output_tokens = 0;
  for (const RequestSample& sample : samples_) {
    if (sample.end > end) continue;
    if (sample.code != absl::StatusCode::kOk) {
      ++result_.num_failed;
      continue;
    }
    ++result_.num_finished;
    num_output_tokens += sample.num_output_tokens;
    means.AddRequest(sample, /*tenant=*/"");
  }
  means.Fill(&result_);
  result_.duration_s = absl::ToDoubleSeconds(end - first_arrival_);
  if (result_.duration_s > 0) {
    result_.output_tokens_per_s = num_output_tokens / result_.duration_s;
    result_.requests_per_s = result_.num_finished / result_.duration_s;
    result_.busy_share = absl::ToDoubleSeconds(busy) / result_.duration_s;
  }
  result_.wall_s = result_.duration_s;
  return std::move(result_);
}

}  // namespace

absl::StatusOr<SimulationResult> MeasureRecording(
    const std::string& path, const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests) {
  RunWatcher watcher(options, requests);
  QUIRE_ASSIGN_OR_RETURN(const ReplayReport report, Replay(path, &watcher));
  if (!report.difference.empty()) return absl::DataLossError(report.difference);
  if (report.cut_off) {
    return absl::DataLossError(absl::StrCat(path, " was cut off"));
  }
  return watcher.Measure();
}

}  // namespace quire
