// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/advice.h"

#include <algorithm>
#include <functional>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "coordinator/engine/preemption_mode.h"

namespace quire {
namespace {

constexpr int kNumPasses = 2;
// A change must be worth this much, or the simpler choice stays.
constexpr double kLeastGain = 0.01;

const char* ModeName(PreemptionMode mode) {
  switch (mode) {
    case PreemptionMode::kSwap:
      return "swap";
    case PreemptionMode::kRecompute:
      return "recompute";
    case PreemptionMode::kAuto:
      return "auto";
  }
  return "";
}

struct Change {
  std::string name;
  std::function<void(EngineOptions*)> apply;
};

// Of one flag.
using Changes = std::vector<Change>;

std::vector<Changes> AllChanges() {
  Changes sizes, budgets, modes, watermarks;
  for (int32_t size : {8, 16, 32, 64, 128}) {
    sizes.push_back({absl::StrCat("block_size=", size),
                     [=](EngineOptions* e) { e->block_size = size; }});
  }
  for (int32_t budget : {256, 512, 1024, 2048, 4096, 8192}) {
    budgets.push_back(
        {absl::StrCat("max_num_batched_tokens=", budget),
         [=](EngineOptions* e) { e->max_num_batched_tokens = budget; }});
  }
  for (PreemptionMode mode : {PreemptionMode::kAuto, PreemptionMode::kSwap,
                              PreemptionMode::kRecompute}) {
    modes.push_back({absl::StrCat("preemption_mode=", ModeName(mode)),
                     [=](EngineOptions* e) { e->preemption_mode = mode; }});
  }
  for (double watermark : {0.0, 0.01, 0.03, 0.06, 0.1}) {
    watermarks.push_back({absl::StrCat("watermark=", watermark),
                          [=](EngineOptions* e) { e->watermark = watermark; }});
  }
  return {sizes, budgets, modes, watermarks};
}

double Excess(double value, double limit) {
  return limit <= 0 ? 0 : std::max(0.0, value / limit - 1);
}

absl::StatusOr<Trial> Try(const AdviceRequest& request,
                          const std::vector<SimulatedRequest>& requests,
                          const EngineOptions& engine, std::string changed) {
  SimulationOptions options;
  options.engine = engine;
  options.cost = request.cost;
  Trial trial;
  trial.engine = engine;
  trial.changed = std::move(changed);
  QUIRE_ASSIGN_OR_RETURN(trial.result, Simulate(options, requests));
  trial.excess = Excess(trial.result.ttft.p99, request.limits.ttft_p99_s) +
                 Excess(trial.result.tpot.p99, request.limits.tpot_p99_s);
  return trial;
}

bool IsBetter(const Trial& a, const Trial& b) {
  if (a.excess != b.excess) return a.excess < b.excess;
  return a.result.normalized_latency.mean <
         (1 - kLeastGain) * b.result.normalized_latency.mean;
}

}  // namespace

absl::StatusOr<std::vector<Trial>> FindAdvice(const AdviceRequest& request) {
  const std::vector<SimulatedRequest> requests =
      MakeWorkload(request.lengths, {.rate = request.rate,
                                     .num_requests = request.num_requests,
                                     .seed = request.seed});
  std::vector<Trial> trials;
  QUIRE_ASSIGN_OR_RETURN(Trial best,
                         Try(request, requests, request.engine, "start"));
  best.chosen = true;
  trials.push_back(best);
  std::set<std::string> tried = {FlagsToPaste(request.engine)};
  for (int pass = 0; pass < kNumPasses; ++pass) {
    for (const Changes& changes : AllChanges()) {
      for (const Change& change : changes) {
        EngineOptions engine = best.engine;
        change.apply(&engine);
        if (!tried.insert(FlagsToPaste(engine)).second) continue;
        QUIRE_ASSIGN_OR_RETURN(Trial trial,
                               Try(request, requests, engine, change.name));
        trial.chosen = IsBetter(trial, best);
        if (trial.chosen) best = trial;
        trials.push_back(std::move(trial));
      }
    }
  }
  return trials;
}

std::string FlagsToPaste(const EngineOptions& engine) {
  return absl::StrFormat(
      "--block_size=%d --max_num_batched_tokens=%d --max_num_seqs=%d "
      "--preemption_mode=%s --watermark=%g",
      engine.block_size, engine.max_num_batched_tokens, engine.max_num_seqs,
      ModeName(engine.preemption_mode), engine.watermark);
}

}  // namespace quire
