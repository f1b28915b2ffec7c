// SPDX-License-Identifier: Apache-2.0
//
// Groups and single requests, of a few shared prefixes, cancelled and finished
// at random times, in pools hardly larger than the largest alone.
#ifndef TESTS_COORDINATOR_ENGINE_RANDOM_LOAD_H_
#define TESTS_COORDINATOR_ENGINE_RANDOM_LOAD_H_

#include <cstdint>

namespace quire {

struct RandomLoadOptions {
  int32_t max_model_len = 96;
  bool has_window = false;         // of 2 to 49 tokens
  int32_t num_more_requests = 30;  // than 10, at most
  bool has_stops = false;          // every other request
  bool has_beams = false;          // every third request
  bool has_tenants = false;        // with weights, guarantees and quotas
  bool has_rows = false;           // of virtual memory, in place of blocks
  // Clients end sequences, deadlines pass, priorities differ, groups of workers
  // are lost and tables get wrong.
  bool is_disturbed = false;
};

struct RandomLoadCounts {
  int64_t num_preemptions = 0;
  int64_t num_swaps = 0;
  int64_t num_cache_hit_tokens = 0;
  int64_t num_resyncs = 0;
  int64_t num_cut_short = 0;  // sequences that were ended from outside
};

// Serves the loads of seeds 1 to `num_seeds` in engines of random options,
// until one fails: expects the tokens of whatever was not ended from outside,
// no rule broken and nothing held at the end. What happened in all.
RandomLoadCounts ServeRandomLoads(const RandomLoadOptions& options,
                                  uint64_t num_seeds);

}  // namespace quire

#endif  // TESTS_COORDINATOR_ENGINE_RANDOM_LOAD_H_
