// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/experiment.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status_macros.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

constexpr double kKneeFactor = 5;  // of unloaded latency

}  // namespace

absl::StatusOr<Experiment> MakeExperiment(const Testbed& testbed,
                                          const std::string& system,
                                          const std::string& preset,
                                          Load load) {
  Experiment experiment;
  experiment.testbed = testbed;
  QUIRE_ASSIGN_OR_RETURN(experiment.system, FindServingSystem(system));
  QUIRE_ASSIGN_OR_RETURN(experiment.cost, LoadCostModel(PresetFile(preset)));
  experiment.load = std::move(load);
  experiment.engine.max_model_len = 2048;
  experiment.engine.max_num_seqs = 256;
  experiment.engine.max_num_batched_tokens = 2048 + 256;
  experiment.engine.run_ahead_depth = 1;
  experiment.engine.preemption_mode = PreemptionMode::kRecompute;
  return experiment;
}

absl::StatusOr<SimulationResult> RunAt(const Experiment& experiment,
                                       double rate, double trace_s,
                                       bool stop_at_last_arrival) {
  SimulationOptions options;
  options.engine = experiment.engine;
  options.cost = experiment.cost;
  options.candidates = experiment.candidates;
  options.prefix_cache = experiment.load.prefix_cache;
  options.stop_at_last_arrival = stop_at_last_arrival;
  options.answers_by_batch = experiment.answers_by_batch;
  ApplyServingSystem(experiment.system, &options);
  const Testbed& testbed = experiment.testbed;
  const int64_t num_requests = std::clamp(
      static_cast<int64_t>(rate * std::min(trace_s, testbed.max_trace_s)),
      testbed.fewest_requests, testbed.most_requests);
  return testbed.run(
      options, MakeWorkload(experiment.load.lengths,
                            {.rate = rate,
                             .num_requests = num_requests,
                             .seed = experiment.seed,
                             .num_sequences = experiment.load.num_sequences,
                             .beam_width = experiment.load.beam_width,
                             .prefix_len = experiment.load.prefix_len}));
}

absl::StatusOr<double> FindKnee(const Experiment& experiment, double trace_s) {
  const Testbed& testbed = experiment.testbed;
  QUIRE_ASSIGN_OR_RETURN(
      const SimulationResult unloaded,
      RunAt(experiment, testbed.lone_rate,
            testbed.num_lone_requests / testbed.lone_rate, false));
  const double limit = kKneeFactor * unloaded.normalized_latency.mean;
  // More than anything serves: what comes out is the capacity.
  const double flood = 20 / unloaded.latency.mean * 100;
  const double num_flooded = std::clamp<double>(
      200 * trace_s, std::min<double>(1000, testbed.most_flooded_requests),
      testbed.most_flooded_requests);
  QUIRE_ASSIGN_OR_RETURN(
      const SimulationResult flooded,
      RunAt(experiment, flood, std::min(trace_s, num_flooded / flood), false));
  double low = 0;
  double high = flooded.requests_per_s * 1.3;
  while (high - low > testbed.knee_precision * high) {
    const double rate = low == 0 ? high / 2 : (low + high) / 2;
    QUIRE_ASSIGN_OR_RETURN(const SimulationResult result,
                           RunAt(experiment, rate, trace_s, false));
    (result.normalized_latency.mean <= limit ? low : high) = rate;
    if (high < 1e-4) break;
  }
  return low;
}

absl::Status ForEach(int num, int num_threads,
                     const std::function<absl::Status(int idx)>& body) {
  std::atomic<int> next = 0;
  absl::Mutex mutex;
  absl::Status status;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < std::min(num, num_threads); ++thread) {
    threads.emplace_back([&] {
      for (int idx = next++; idx < num; idx = next++) {
        const absl::Status one = body(idx);
        if (one.ok()) continue;
        absl::MutexLock lock(&mutex);
        status.Update(one);
        next = num;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace quire
