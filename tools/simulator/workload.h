// SPDX-License-Identifier: Apache-2.0
//
// Requests of a simulated run: when they come, how long they are, what they
// share. Lengths come from files of {"prompt_len", "output_len"} lines.
#ifndef TOOLS_SIMULATOR_WORKLOAD_H_
#define TOOLS_SIMULATOR_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace quire {

struct RequestLengths {
  int32_t prompt_len = 0;  // tokens
  int32_t output_len = 0;
};

struct SimulatedRequest {
  int64_t arrival_ns = 0;     // after the start
  int32_t prompt_len = 0;     // shared prefix included
  int32_t output_len = 0;     // exactly so many: no token ends a sequence
  int32_t prefix_len = 0;     // its first tokens are those of others' prefixes
  int32_t num_sequences = 1;  // sampled in parallel
  int32_t beam_width = 0;     // 0: none
  std::string tenant = {};
};

// Arrivals are a Poisson process.
struct WorkloadOptions {
  double rate = 1;  // requests/s
  int64_t num_requests = 1000;
  uint64_t seed = 1;
  int32_t num_sequences = 1;
  int32_t beam_width = 0;
  int32_t prefix_len = 0;  // added in front of every prompt
  std::string tenant = {};
};

// NotFound, or InvalidArgument naming the line.
absl::StatusOr<std::vector<RequestLengths>> ReadLengths(
    const std::string& path);

// Prompts that carry the conversation so far: the sum of earlier turns'
// prompts and outputs and this turn's prompt, its last `max_prompt_len` tokens,
// and outputs cut at `max_output_len`. A conversation takes turns, each of the
// next entry of `lengths`, and goes on with probability `continue_probability`.
std::vector<RequestLengths> MakeChats(const std::vector<RequestLengths>& turns,
                                      double continue_probability,
                                      int32_t max_prompt_len,
                                      int32_t max_output_len, uint64_t seed);

// Lognormal lengths of these means and this standard deviation of the
// logarithm, from 1 to `max_len`.
std::vector<RequestLengths> MakeLognormalLengths(double mean_prompt_len,
                                                 double mean_output_len,
                                                 double sigma, int32_t max_len,
                                                 int64_t num_requests,
                                                 uint64_t seed);

// `num_requests` requests in order of arrival, whose lengths are those of
// `lengths` in an order that follows from the seed, taken again from the start
// when they are used up. A function of its arguments. REQUIRES: `lengths` is
// not empty, rate > 0.
std::vector<SimulatedRequest> MakeWorkload(
    const std::vector<RequestLengths>& lengths, const WorkloadOptions& options);

// Those of several workloads by arrival, as far as `end_ns`.
std::vector<SimulatedRequest> MergeWorkloads(
    const std::vector<std::vector<SimulatedRequest>>& workloads,
    int64_t end_ns);

// The prompt of the idx-th request: its first `prefix_len` tokens are
// everyone's, the others follow from `idx`. Ids are below `vocab_size`, and
// those of special tokens are left out. REQUIRES: vocab_size > 100.
std::vector<TokenId> MakePrompt(const SimulatedRequest& request, int64_t idx,
                                int64_t vocab_size);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_WORKLOAD_H_
