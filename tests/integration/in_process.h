// SPDX-License-Identifier: Apache-2.0
//
// The real engine over a real worker group, without processes or sockets.
#ifndef TESTS_INTEGRATION_IN_PROCESS_H_
#define TESTS_INTEGRATION_IN_PROCESS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/ids.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/preemption_mode.h"
#include "coordinator/engine/prefix_demotion.h"
#include "coordinator/routing/group_choice.h"
#include "kernels/dtype.h"

namespace quire {

struct InProcessSetting {
  std::string model;  // a Hugging Face folder
  int32_t tensor_parallel_size = 1;
  DType dtype = DType::kBf16;
  int32_t max_model_len = 256;
  int32_t sliding_window = 0;  // as the model's config has it
  int32_t max_num_seqs = 16;
  int32_t max_num_batched_tokens = 256;
  int32_t block_size = 16;
  int32_t num_blocks = 4096;
  int32_t num_host_blocks = 0;
  int32_t forced_preemption_period = 0;
  PreemptionMode preemption_mode = PreemptionMode::kRecompute;
  // What the engine is told of the workers' speed; 0: nothing.
  double swap_blocks_per_second = 0;
  double prefill_tokens_per_second = 0;
  bool enable_prefix_caching = true;
  PrefixDemotion demote_prefixes = PrefixDemotion::kNever;
  int32_t run_ahead_depth = 2;
  std::string kv_manager = "paged";
  std::string scheduling_policy = "paged_fcfs";
  int64_t virtual_page_bytes = 0;  // of kv_manager "virtual"
  int32_t sparse_pages = 0;        // see EngineOptions
  bool one_at_a_time = false;      // a request comes when the last has ended
  std::string record;              // the file to record in, if any
  // With several groups, none of which records: behind a router.
  int32_t num_groups = 1;
  RoutingPolicy routing = RoutingPolicy::kEarliestStart;
  // > 0: the next so many requests come when those before them have ended.
  int32_t requests_at_once = 0;
  // >= 0: this group is lost for good when so many tokens of the requests that
  // were sent to it have been heard.
  int32_t lost_group = -1;
  int64_t lost_at_token = 0;
};

// What a client hears of one sequence.
struct HeardSequence {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs;          // one per token, if they were asked for
  std::vector<SampledLogprobs> scores;  // the same, whole
  FinishReason finish_reason = FinishReason::kNone;
};

// What a sequence of request `request_idx`, which needs masks, may sample after
// these outputs. Called on the engine's thread.
using MaskOf = std::function<TokenMask(int32_t request_idx, int32_t index,
                                       const std::vector<TokenId>& outputs)>;

struct InProcessRun {
  // In the order of the requests: each one's first sequence, then all.
  std::vector<std::vector<TokenId>> streams;
  std::vector<FinishReason> finish_reasons;
  std::vector<std::vector<HeardSequence>> sequences;
  // By request: of prompt tokens 1, 2 ..., if they were asked for.
  std::vector<std::vector<SampledLogprobs>> prompt_scores;
  int64_t num_preemptions = 0;
  int64_t num_cache_hit_tokens = 0;
  int64_t num_host_hit_tokens = 0;    // of them
  int64_t num_swapped_blocks = 0;     // either way
  int64_t num_adopted = 0;            // requests, from a group that was lost
  std::vector<int64_t> num_finished;  // requests, by group
};

// Submits all requests and waits for the last sequence. With several groups,
// workers begin when all of those that come at once are there: which group a
// request goes to depends on nobody's speed. Reports a test
// failure if one fails, if a stream has a gap, or if a block of any group that
// is not lost is not given back.
InProcessRun RunInProcess(const InProcessSetting& setting,
                          std::vector<EngineRequest> requests,
                          const MaskOf& mask_of = nullptr);

}  // namespace quire

#endif  // TESTS_INTEGRATION_IN_PROCESS_H_
