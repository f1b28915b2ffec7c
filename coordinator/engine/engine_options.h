// SPDX-License-Identifier: Apache-2.0
//
// What the engine is told at start. Names are those of the flags.
#ifndef COORDINATOR_ENGINE_ENGINE_OPTIONS_H_
#define COORDINATOR_ENGINE_ENGINE_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/sampling_params.h"
#include "coordinator/engine/preemption_mode.h"
#include "coordinator/engine/prefix_demotion.h"
#include "coordinator/engine/tenant_config.h"

namespace quire {

// What becomes of requests when their worker group is lost.
enum class OnGroupLostAction {
  kFail,     // they end Unavailable
  kRequeue,  // they wait, with their tokens, for the next group epoch
};

struct EngineOptions {
  int32_t max_num_seqs = 256;
  int32_t max_num_batched_tokens = 2048;
  // That steps with as many decodes are cut to: scheduler/round_tokens.h.
  int32_t token_multiple = 1;
  int32_t max_model_len = 2048;  // tokens
  int32_t block_size = 16;       // tokens
  // Tokens that every layer's attention looks back on at most, the query's own
  // included. Blocks behind them are given back. 0: some layer looks back on
  // all.
  int32_t sliding_window = 0;
  std::string kv_manager = "paged";
  std::string scheduling_policy = "paged_fcfs";
  // Steps planned before the first of them is known. 1: wait for each result.
  int32_t run_ahead_depth = 2;
  // Part of the pool that an admission leaves free for others to grow into.
  // In the simulator, full pools preempted up to 2.5 times as often with 0.01,
  // and served up to 2 % fewer requests with 0.05.
  double watermark = 0.02;
  int32_t max_queued_requests = 1024;
  int64_t max_queued_tokens = 1 << 22;  // of prompts
  // A waiting request gains a level of priority each so long; 0: never.
  absl::Duration priority_ageing = absl::ZeroDuration();
  TenantConfig tenants;
  OnGroupLostAction on_group_lost = OnGroupLostAction::kFail;
  PreemptionMode preemption_mode = PreemptionMode::kAuto;
  // Whether requests find prefixes of earlier ones, and leave theirs.
  bool enable_prefix_caching = true;
  // Blocks that a decode reads (common/sparse_attention.h); 0: all.
  int32_t sparse_pages = 0;
  // What becomes of prefixes whose blocks are needed, if there is host memory.
  PrefixDemotion demote_prefixes = PrefixDemotion::kAuto;
  // Of the hash that turns salts into scopes: secret, or clients could find
  // salts that collide.
  uint64_t cache_salt_key = 0;
  // For tests: preempt the last group every so many steps. 0: never.
  int32_t forced_preemption_period = 0;
};

// InvalidArgument names the flag, its value and its range.
absl::Status ValidateEngineOptions(const EngineOptions& options);

// Sequences of a request's group: those it samples, or its beams.
inline int32_t NumSequences(const SamplingParams& sampling) {
  return sampling.beam_width > 0 ? sampling.beam_width : sampling.best_of;
}

// Whether a request of `num_seqs` sequences could run with the workers to
// itself. InvalidArgument says how much it needs and how much there is. What
// siblings share is not counted: after a preemption it may be shared no more.
// With a sliding window, blocks behind it need not fit beside those in it.
// `block_size` is that of the pool, if it is not --block_size.
absl::Status CheckFitsAlone(const EngineOptions& options, int32_t num_blocks,
                            int64_t num_prompt_tokens, int64_t max_tokens,
                            int32_t block_size = 0, int32_t num_seqs = 1);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_OPTIONS_H_
