// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/means.h"

#include <algorithm>
#include <numeric>

#include "absl/time/time.h"

namespace quire {
namespace {

// Linear between the nearest ranks, as numpy's.
double Rank(const std::vector<double>& sorted, double share) {
  const double place = share * (sorted.size() - 1);
  const size_t below = static_cast<size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]);
}

LatencyPercentiles Summarize(std::vector<double>* values) {
  if (values->empty()) return {};
  std::sort(values->begin(), values->end());
  return {.mean = std::accumulate(values->begin(), values->end(), 0.0) /
                  values->size(),
          .p50 = Rank(*values, 0.5),
          .p90 = Rank(*values, 0.9),
          .p99 = Rank(*values, 0.99)};
}

}  // namespace

void RunMeans::Add(double seconds, const EngineStats& stats,
                   const SlotTotals& totals, const StepWork& work) {
  seconds_ += seconds;
  batched_requests_ += seconds * stats.num_running;
  batched_sequences_ += seconds * work.num_sequences;
  waiting_ += seconds * stats.num_waiting;
  const double num_slots = static_cast<double>(stats.num_blocks) * block_size_;
  const double num_held =
      stats.num_blocks - stats.num_free_blocks - stats.num_cached_blocks;
  // Siblings share full blocks, so what is saved is full of tokens.
  const double num_saved = std::max(0.0, totals.num_blocks - num_held);
  // What an allocator adds to a reservation to make its size even. The paper
  // counts it as external.
  const double num_rounding = std::max(0.0, num_held - totals.num_blocks);
  const double num_tokens =
      totals.num_computed_tokens - num_saved * block_size_;
  const double num_future = static_cast<double>(totals.num_future_tokens);
  const double num_internal = std::max(
      0.0, (num_held - num_rounding) * block_size_ - num_tokens - num_future);
  kv_.token_states += seconds * num_tokens / num_slots;
  kv_.reserved += seconds * num_future / num_slots;
  kv_.internal += seconds * num_internal / num_slots;
  kv_.cached += seconds * stats.num_cached_blocks / stats.num_blocks;
  kv_.free +=
      seconds * (stats.num_free_blocks + num_rounding) / stats.num_blocks;
  held_share_ += seconds * num_held / stats.num_blocks;
  max_token_share_ = std::max(max_token_share_, num_tokens / num_slots);
  logical_blocks_ += seconds * std::max<double>(totals.num_blocks, num_held);
  saved_blocks_ += seconds * num_saved;
}

void RunMeans::AddRequest(const RequestSample& sample,
                          const std::string& tenant) {
  const double latency_s = absl::ToDoubleSeconds(sample.end - sample.arrival);
  const double ttft_s =
      absl::ToDoubleSeconds(sample.first_token - sample.arrival);
  latency_.push_back(latency_s);
  ttft_.push_back(ttft_s);
  if (!tenant.empty()) tenant_ttft_[tenant].push_back(ttft_s);
  normalized_latency_.push_back(latency_s /
                                std::max(1, sample.num_output_tokens));
  if (sample.num_output_tokens > 1) {
    tpot_.push_back((latency_s - ttft_s) / (sample.num_output_tokens - 1));
  }
}

void RunMeans::Fill(SimulationResult* result) {
  result->normalized_latency = Summarize(&normalized_latency_);
  result->ttft = Summarize(&ttft_);
  result->tpot = Summarize(&tpot_);
  result->latency = Summarize(&latency_);
  result->tenants.clear();
  for (auto& [tenant, ttft] : tenant_ttft_) {
    const auto num_finished = static_cast<int64_t>(ttft.size());
    result->tenants.push_back({.tenant = tenant,
                               .num_finished = num_finished,
                               .ttft = Summarize(&ttft)});
  }
  result->max_token_share = max_token_share_;
  if (seconds_ == 0) return;
  result->num_batched_requests = batched_requests_ / seconds_;
  result->num_batched_sequences = batched_sequences_ / seconds_;
  result->num_waiting = waiting_ / seconds_;
  result->kv = {.token_states = kv_.token_states / seconds_,
                .reserved = kv_.reserved / seconds_,
                .internal = kv_.internal / seconds_,
                .cached = kv_.cached / seconds_,
                .free = kv_.free / seconds_};
  if (held_share_ > 0) {
    result->token_share_of_held = kv_.token_states / held_share_;
  }
  if (logical_blocks_ > 0) {
    result->saved_share = saved_blocks_ / logical_blocks_;
  }
}

}  // namespace quire
