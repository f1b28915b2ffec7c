// SPDX-License-Identifier: Apache-2.0
//
// What the engine counts. Plain numbers, so that the engine knows no metrics
// library; whoever exports them turns them into one.
#ifndef COORDINATOR_ENGINE_ENGINE_METRICS_H_
#define COORDINATOR_ENGINE_ENGINE_METRICS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/scheduler/wait_reason.h"

namespace quire {

// Only ever grow.
struct EngineCounters {
  int64_t num_steps = 0;           // planned
  int64_t num_decode_tokens = 0;   // planned
  int64_t num_prefill_tokens = 0;  // planned, recomputed ones included
  int64_t num_prompt_tokens = 0;   // of requests, once each
  int64_t num_generated_tokens = 0;
  int64_t num_preemptions = 0;
  int64_t num_finished_stop = 0;
  int64_t num_finished_length = 0;
  int64_t num_cancelled = 0;
  int64_t num_deadline_exceeded = 0;
  int64_t num_failed = 0;         // any other status
  int64_t num_wasted_tokens = 0;  // sampled after their sequence had ended
  int64_t num_stale_results = 0;  // of another epoch or step, dropped
  int64_t num_resyncs = 0;        // tables disagreed
  int64_t num_groups_lost = 0;
  int64_t num_requeued = 0;         // requests that outlived their group
  int64_t num_adopted = 0;          // of other engines, whose group was lost
  int64_t num_refused_growths = 0;  // the manager had less than it showed
  // Summed over steps: blocks held by somebody, and entries of block tables,
  // which is what would be held if nobody shared. 1 - held / tables is the
  // memory that sharing saves (PagedAttention, SOSP'23, figure 15).
  int64_t num_held_block_steps = 0;
  int64_t num_table_block_steps = 0;
  int64_t num_refused_admissions = 0;  // a cached prefix was gone by then
  // Prompt tokens looked for in the prefix cache, and found computed there.
  int64_t num_cache_query_tokens = 0;
  int64_t num_cache_hit_tokens = 0;
  int64_t num_host_hit_tokens = 0;     // of them, in host blocks
  int64_t num_copied_blocks = 0;       // on write, between siblings
  int64_t num_swapped_out_blocks = 0;  // to host memory
  int64_t num_swapped_in_blocks = 0;
};

// A request that has ended.
struct RequestSample {
  RequestKey key;
  absl::Time arrival;
  absl::Time first_scheduled = absl::InfinitePast();  // so: never
  absl::Time first_token = absl::InfinitePast();      // so: none
  absl::Time end;
  int32_t num_prompt_tokens = 0;
  int32_t num_output_tokens = 0;
  int32_t num_preemptions = 0;
  FinishReason finish_reason = FinishReason::kNone;
  absl::StatusCode code = absl::StatusCode::kOk;
};

// A step whose result has come.
struct StepSample {
  StepId step_id;
  int32_t num_sequences = 0;  // that computed
  int32_t num_tokens = 0;     // computed
  absl::Duration turnaround;  // plan to result
  int32_t step_us = 0;        // on the workers
};

// What a tenant has been served; only ever grows.
struct TenantServed {
  std::string label;              // its name, or kOtherTenants
  int64_t num_prompt_tokens = 0;  // computed, once each
  int64_t num_output_tokens = 0;
};

// Tenants told apart by name; all others share a label.
inline constexpr int32_t kMaxTenantLabels = 50;
inline constexpr char kOtherTenants[] = "other";

struct EngineMetrics {
  EngineCounters counters;
  std::vector<TenantServed> tenants;
  // Time that requests have waited, by WaitReason.
  std::array<absl::Duration, kNumWaitReasons> waited = {};
  // Since they were last taken, kMaxSamples at most; the rest is only counted.
  std::vector<RequestSample> requests;
  std::vector<StepSample> steps;
  int64_t num_dropped_samples = 0;
};

// Most samples of a kind that are kept.
inline constexpr int32_t kMaxSamples = 8192;

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_METRICS_H_
