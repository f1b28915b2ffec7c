// SPDX-License-Identifier: Apache-2.0
//
// What a run's records amount to, by the definitions of vLLM's `bench serve`:
//
//   TTFT   first message with tokens - sent
//   TPOT   (E2EL - TTFT) / (output tokens - 1), of requests with two or more;
//          the first token is excluded; of several sequences, the longest
//          counts
//   ITL    every gap between messages with tokens of one sequence, of all
//          together
//   E2EL   last message with tokens - sent
//   good   keeps every limit given, a TPOT that does not exist counting as 0
//
// Only completed requests count. The client's own queueing (sent - arrival) is
// beside these, not in them.
#ifndef TOOLS_LOADGEN_STATISTICS_H_
#define TOOLS_LOADGEN_STATISTICS_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/time/time.h"
#include "tools/loadgen/options.h"
#include "tools/loadgen/request_record.h"

namespace quire {

// Of one latency, in milliseconds; all zero where there were no values.
struct LatencySummary {
  double mean_ms = 0;
  double median_ms = 0;
  double std_ms = 0;  // of the population
  std::map<double, double> percentiles_ms;
};

struct RunMetrics {
  int64_t num_completed = 0;
  int64_t num_failed = 0;
  int64_t num_cancelled = 0;
  double duration_s = 0;
  int64_t num_input_tokens = 0;
  int64_t num_output_tokens = 0;
  double request_throughput = 0;  // requests/s
  double request_goodput = 0;     // requests/s
  double output_throughput = 0;   // tokens/s
  double total_token_throughput = 0;
  // Most tokens, and requests in flight, in any second counted from the first
  // request.
  double max_output_tokens_per_s = 0;
  int64_t max_concurrent_requests = 0;
  LatencySummary ttft;
  LatencySummary tpot;
  LatencySummary itl;
  LatencySummary e2el;
  LatencySummary client_queue;
};

// The latencies of one request.
double TtftMs(const RequestRecord& record);
double TpotMs(const RequestRecord& record);  // 0 with fewer than two tokens
double E2elMs(const RequestRecord& record);
std::vector<double> ItlMs(const RequestRecord& record);

// Whether `record`, completed, keeps every limit.
bool IsGood(const RequestRecord& record, const GoodputOptions& limits);

// Linear between the nearest ranks, as numpy's. 0 if there are no values.
// REQUIRES: `sorted` ascends; percentile in [0, 100].
double Percentile(const std::vector<double>& sorted, double percentile);

LatencySummary Summarize(std::vector<double> values_ms,
                         const std::vector<double>& percentiles);

// `duration`: from the first arrival to the last end.
RunMetrics ComputeMetrics(const std::vector<RequestRecord>& records,
                          absl::Duration duration,
                          const GoodputOptions& goodput,
                          const std::vector<double>& percentiles);

}  // namespace quire

#endif  // TOOLS_LOADGEN_STATISTICS_H_
