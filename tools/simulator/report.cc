// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/report.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/cli/text_table.h"

namespace quire {
namespace {

std::vector<std::string> LatencyRow(const std::string& name,
                                    const LatencyPercentiles& latency) {
  std::vector<std::string> row = {name};
  for (double seconds : {latency.mean, latency.p50, latency.p90, latency.p99}) {
    row.push_back(absl::StrFormat("%.4f", seconds));
  }
  return row;
}

std::string Percent(double share) {
  return absl::StrFormat("%.1f %%", 100 * share);
}

nlohmann::ordered_json ToJson(const LatencyPercentiles& latency) {
  return {{"mean", latency.mean},
          {"p50", latency.p50},
          {"p90", latency.p90},
          {"p99", latency.p99}};
}

double Speed(const SimulationResult& result) {
  return result.wall_s > 0 ? result.duration_s / result.wall_s : 0;
}

}  // namespace

std::string FormatResult(const SimulationResult& result) {
  std::string text = absl::StrFormat(
      "%d requests, %d finished, %d failed, in %.1f simulated s "
      "(%.2f s of real time: %.0fx)\n\n",
      result.num_requests, result.num_finished, result.num_failed,
      result.duration_s, result.wall_s, Speed(result));
  absl::StrAppend(
      &text,
      FormatTable(
          {"seconds", "mean", "p50", "p90", "p99"},
          {LatencyRow("per output token", result.normalized_latency),
           LatencyRow("TTFT", result.ttft), LatencyRow("TPOT", result.tpot),
           LatencyRow("end to end", result.latency)}));
  const KvShares& kv = result.kv;
  absl::StrAppendFormat(
      &text,
      "\nbatched requests   %.2f   sequences in a step %.2f   waiting %.1f\n"
      "output             %.0f tokens/s, %.3f requests/s, device busy %s\n",
      result.num_batched_requests, result.num_batched_sequences,
      result.num_waiting, result.output_tokens_per_s, result.requests_per_s,
      Percent(result.busy_share));
  absl::StrAppendFormat(
      &text,
      "KV pool            %s token states, %s reserved, %s internal, "
      "%s cached, %s free\n"
      "                   %s of what is held are token states; sharing saves "
      "%s\n",
      Percent(kv.token_states), Percent(kv.reserved), Percent(kv.internal),
      Percent(kv.cached), Percent(kv.free), Percent(result.token_share_of_held),
      Percent(result.saved_share));
  absl::StrAppendFormat(
      &text,
      "preemptions        %d   blocks swapped out %d, in %d   copied %d   "
      "cached prompt tokens %d\n",
      result.counters.num_preemptions, result.num_swapped_out_blocks,
      result.num_swapped_in_blocks, result.num_copied_blocks,
      result.num_cached_tokens);
  return text;
}

std::string ResultToJson(const SimulationResult& result) {
  const EngineCounters& counters = result.counters;
  nlohmann::ordered_json json = {
      {"num_requests", result.num_requests},
      {"num_finished", result.num_finished},
      {"num_failed", result.num_failed},
      {"duration_s", result.duration_s},
      {"normalized_latency_s", ToJson(result.normalized_latency)},
      {"ttft_s", ToJson(result.ttft)},
      {"tpot_s", ToJson(result.tpot)},
      {"latency_s", ToJson(result.latency)},
      {"num_batched_requests", result.num_batched_requests},
      {"num_batched_sequences", result.num_batched_sequences},
      {"num_waiting", result.num_waiting},
      {"kv",
       {{"token_states", result.kv.token_states},
        {"reserved", result.kv.reserved},
        {"internal", result.kv.internal},
        {"cached", result.kv.cached},
        {"free", result.kv.free}}},
      {"token_share_of_held", result.token_share_of_held},
      {"max_token_share", result.max_token_share},
      {"saved_share", result.saved_share},
      {"output_tokens_per_s", result.output_tokens_per_s},
      {"requests_per_s", result.requests_per_s},
      {"busy_share", result.busy_share},
      {"num_cached_tokens", result.num_cached_tokens},
      {"num_swapped_out_blocks", result.num_swapped_out_blocks},
      {"num_swapped_in_blocks", result.num_swapped_in_blocks},
      {"num_copied_blocks", result.num_copied_blocks},
      {"num_preemptions", counters.num_preemptions},
      {"num_steps", counters.num_steps},
      {"num_generated_tokens", counters.num_generated_tokens},
      {"num_prefill_tokens", counters.num_prefill_tokens},
      {"num_wasted_tokens", counters.num_wasted_tokens},
      {"wall_s", result.wall_s},
      {"speed", Speed(result)},
  };
  return json.dump(2) + "\n";
}

}  // namespace quire
