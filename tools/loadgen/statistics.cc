// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace quire {
namespace {

// When the request was last heard of: latencies end with the last token.
absl::Time LastToken(const RequestRecord& record) {
  return record.arrivals.empty() ? record.end : record.arrivals.back().time;
}

// Tokens of the longest sequence.
int64_t MostTokens(const RequestRecord& record) {
  size_t most = 0;
  for (const OutputSequence& sequence : record.sequences) {
    most = std::max(most, sequence.token_ids.size());
  }
  return static_cast<int64_t>(most);
}

// Counts of every second from the first request on.
void SetPeaks(const std::vector<const RequestRecord*>& completed,
              RunMetrics* metrics) {
  absl::Time start = absl::InfiniteFuture();
  for (const RequestRecord* record : completed) {
    start = std::min(start, record->sent);
  }
  const auto second_of = [start](absl::Time time) {
    return absl::ToInt64Seconds(time - start);
  };
  std::map<int64_t, int64_t> num_tokens;
  std::map<int64_t, int64_t> num_requests;
  for (const RequestRecord* record : completed) {
    for (const TokenArrival& arrival : record->arrivals) {
      num_tokens[second_of(arrival.time)] += arrival.num_tokens;
    }
    for (int64_t second = second_of(record->sent);
         second <= second_of(LastToken(*record)); ++second) {
      ++num_requests[second];
    }
  }
  for (const auto& [second, num] : num_tokens) {
    metrics->max_output_tokens_per_s =
        std::max<double>(metrics->max_output_tokens_per_s, num);
  }
  for (const auto& [second, num] : num_requests) {
    metrics->max_concurrent_requests =
        std::max(metrics->max_concurrent_requests, num);
  }
}

void SetRates(int64_t num_good, RunMetrics* metrics) {
  if (metrics->duration_s <= 0) return;
  const double per_s = 1 / metrics->duration_s;
  metrics->request_throughput = metrics->num_completed * per_s;
  metrics->request_goodput = num_good * per_s;
  metrics->output_throughput = metrics->num_output_tokens * per_s;
  metrics->total_token_throughput =
      (metrics->num_input_tokens + metrics->num_output_tokens) * per_s;
}

}  // namespace

double TtftMs(const RequestRecord& record) {
  if (record.arrivals.empty()) return 0;
  return absl::ToDoubleMilliseconds(record.arrivals.front().time - record.sent);
}

double E2elMs(const RequestRecord& record) {
  return absl::ToDoubleMilliseconds(LastToken(record) - record.sent);
}

double TpotMs(const RequestRecord& record) {
  const int64_t num_tokens = MostTokens(record);
  if (num_tokens < 2) return 0;
  return (E2elMs(record) - TtftMs(record)) / (num_tokens - 1);
}

std::vector<double> ItlMs(const RequestRecord& record) {
  std::vector<double> gaps_ms;
  std::map<uint32_t, absl::Time> last;  // by sequence
  for (const TokenArrival& arrival : record.arrivals) {
    const auto [it, is_first] = last.insert({arrival.index, arrival.time});
    if (is_first) continue;
    gaps_ms.push_back(absl::ToDoubleMilliseconds(arrival.time - it->second));
    it->second = arrival.time;
  }
  return gaps_ms;
}

bool IsGood(const RequestRecord& record, const GoodputOptions& limits) {
  return (!limits.ttft_ms || TtftMs(record) <= *limits.ttft_ms) &&
         (!limits.tpot_ms || TpotMs(record) <= *limits.tpot_ms) &&
         (!limits.e2el_ms || E2elMs(record) <= *limits.e2el_ms);
}

double Percentile(const std::vector<double>& sorted, double percentile) {
  if (sorted.empty()) return 0;
  const double rank = percentile / 100 * (sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - below) * (sorted[above] - sorted[below]);
}

LatencySummary Summarize(std::vector<double> values_ms,
                         const std::vector<double>& percentiles) {
  LatencySummary summary;
  std::sort(values_ms.begin(), values_ms.end());
  for (const double percentile : percentiles) {
    summary.percentiles_ms[percentile] = Percentile(values_ms, percentile);
  }
  if (values_ms.empty()) return summary;
  const double num = static_cast<double>(values_ms.size());
  summary.mean_ms =
      std::accumulate(values_ms.begin(), values_ms.end(), 0.0) / num;
  summary.median_ms = Percentile(values_ms, 50);
  double squares = 0;
  for (const double value : values_ms) {
    squares += (value - summary.mean_ms) * (value - summary.mean_ms);
  }
  summary.std_ms = std::sqrt(squares / num);
  return summary;
}

RunMetrics ComputeMetrics(const std::vector<RequestRecord>& records,
                          absl::Duration duration,
                          const GoodputOptions& goodput,
                          const std::vector<double>& percentiles) {
  RunMetrics metrics;
  metrics.duration_s = absl::ToDoubleSeconds(duration);
  std::vector<const RequestRecord*> completed;
  std::vector<double> ttfts, tpots, itls, e2els, queueing;
  int64_t num_good = 0;
  for (const RequestRecord& record : records) {
    if (record.outcome == RequestOutcome::kFailed) ++metrics.num_failed;
    if (record.outcome == RequestOutcome::kCancelled) ++metrics.num_cancelled;
    if (record.outcome != RequestOutcome::kCompleted) continue;
    completed.push_back(&record);
    metrics.num_input_tokens += record.num_prompt_tokens;
    metrics.num_output_tokens += record.num_output_tokens();
    ttfts.push_back(TtftMs(record));
    if (MostTokens(record) > 1) tpots.push_back(TpotMs(record));
    const std::vector<double> gaps = ItlMs(record);
    itls.insert(itls.end(), gaps.begin(), gaps.end());
    e2els.push_back(E2elMs(record));
    queueing.push_back(
        absl::ToDoubleMilliseconds(record.sent - record.arrival));
    if (IsGood(record, goodput)) ++num_good;
  }
  metrics.num_completed = static_cast<int64_t>(completed.size());
  SetRates(num_good, &metrics);
  SetPeaks(completed, &metrics);
  metrics.ttft = Summarize(std::move(ttfts), percentiles);
  metrics.tpot = Summarize(std::move(tpots), percentiles);
  metrics.itl = Summarize(std::move(itls), percentiles);
  metrics.e2el = Summarize(std::move(e2els), percentiles);
  metrics.client_queue = Summarize(std::move(queueing), percentiles);
  return metrics;
}

}  // namespace quire
