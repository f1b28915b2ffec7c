// SPDX-License-Identifier: Apache-2.0
//
// EngineCore, its policies and its KV managers under a simulated clock. Three
// kinds of events: a request arrives, a step's result comes after the modelled
// time, the engine plans as far ahead as it may. A run is a function of its
// options and requests.
#ifndef TOOLS_SIMULATOR_SIMULATION_H_
#define TOOLS_SIMULATOR_SIMULATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/step_plan.h"
#include "coordinator/engine/engine_metrics.h"
#include "coordinator/engine/engine_observer.h"
#include "coordinator/engine/engine_options.h"
#include "tools/simulator/candidates.h"
#include "tools/simulator/cost_model.h"
#include "tools/simulator/workload.h"

namespace quire {

struct SimulationOptions {
  EngineOptions engine;
  CostModel cost;
  CandidateOptions candidates;
  int32_t num_blocks = 0;       // 0: as many as the cost model says
  int32_t num_host_blocks = 0;  // likewise
  bool contiguous_kv = false;   // one piece per sequence: no block tables
  bool prefix_cache = false;
  // Means are taken from this share of the arrivals' time to the last arrival:
  // neither the start nor the end of a run looks like its middle.
  double warmup = 0.2;
  // Stops after the last arrival and counts only what had ended by then. A
  // system that cannot keep up would go on for long.
  bool stop_at_last_arrival = false;
  // Requests are answered when the last of their batch has ended, and not token
  // by token: what a server without iteration-level scheduling does (Orca,
  // OSDI'22, section 2). Only for the policy static_batch.
  bool answers_by_batch = false;
  int32_t invariants_period = 0;  // steps between checks of the books; 0: never
  // Hears what the engine hears and plans, such as a Recorder; may be null.
  EngineObserver* observer = nullptr;
};

// Of a latency, seconds. All zero if there were no values.
struct LatencyPercentiles {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
};

// Shares of the pool, means over time; they add up to 1.
struct KvShares {
  double token_states = 0;  // computed tokens
  double reserved = 0;      // room that its sequence will still write
  double internal = 0;      // held, never written
  double cached = 0;        // evictable prefixes
  double free = 0;          // external fragmentation and what is just free
};

// What a tenant had of a run.
struct TenantResult {
  std::string tenant;
  int64_t num_finished = 0;
  LatencyPercentiles ttft;
  int64_t num_prompt_tokens = 0;  // computed, once each
  int64_t num_output_tokens = 0;
};

struct SimulationResult {
  int64_t num_requests = 0;
  int64_t num_finished = 0;
  int64_t num_failed = 0;
  double duration_s = 0;  // to the last event

  LatencyPercentiles normalized_latency;  // per output token
  LatencyPercentiles ttft;
  LatencyPercentiles tpot;
  LatencyPercentiles latency;

  // Means over the window, weighted by the duration of steps.
  double num_batched_requests = 0;   // groups that run
  double num_batched_sequences = 0;  // that compute in a step
  double num_waiting = 0;
  KvShares kv;
  double token_share_of_held = 0;  // token states / blocks that are held
  double max_token_share = 0;      // of the pool, at any step of the run
  // Blocks that sharing saves / blocks that sequences would hold without.
  double saved_share = 0;

  double output_tokens_per_s = 0;  // to the last event
  double requests_per_s = 0;
  int64_t num_cached_tokens = 0;  // prompt tokens found in the cache
  int64_t num_swapped_out_blocks = 0;
  int64_t num_swapped_in_blocks = 0;
  int64_t num_copied_blocks = 0;
  double busy_share = 0;              // of the time, a step was running
  std::vector<TenantResult> tenants;  // by name; those that have one
  EngineCounters counters;

  double wall_s = 0;  // real time that the run took; differs from run to run
};

// Adds the blocks that a plan moves and the tokens that it finds cached.
void CountWork(const StepPlan& plan, SimulationResult* result);

// InvalidArgument as EngineCore; Internal if requests remain that nothing
// runs, or the books do not balance.
absl::StatusOr<SimulationResult> Simulate(
    const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_SIMULATION_H_
