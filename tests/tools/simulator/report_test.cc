// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/report.h"

#include <string>
#include <type_traits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

using ::testing::HasSubstr;

// Every number is another one, so that none can stand in another's place.
SimulationResult Distinct() {
  SimulationResult result;
  double next = 1;
  const auto fill = [&next](auto*... fields) {
    ((*fields = static_cast<std::decay_t<decltype(*fields)>>(next++)), ...);
  };
  for (LatencyPercentiles* latency : {&result.normalized_latency, &result.ttft,
                                      &result.tpot, &result.latency}) {
    fill(&latency->mean, &latency->p50, &latency->p90, &latency->p99);
  }
  fill(&result.num_requests, &result.num_finished, &result.num_failed,
       &result.duration_s, &result.num_batched_requests,
       &result.num_batched_sequences, &result.num_waiting,
       &result.token_share_of_held, &result.max_token_share,
       &result.saved_share, &result.output_tokens_per_s, &result.requests_per_s,
       &result.num_cached_tokens, &result.num_swapped_out_blocks,
       &result.num_swapped_in_blocks, &result.num_copied_blocks,
       &result.busy_share, &result.kv.token_states, &result.kv.reserved,
       &result.kv.internal, &result.kv.cached, &result.kv.free,
       &result.counters.num_preemptions, &result.counters.num_steps,
       &result.counters.num_generated_tokens,
       &result.counters.num_prefill_tokens, &result.counters.num_wasted_tokens);
  result.wall_s = result.duration_s / 1000;
  return result;
}

TEST(ReportTest, JsonHasEachNumberUnderItsName) {
  const SimulationResult result = Distinct();
  const auto json = nlohmann::json::parse(ResultToJson(result));
  EXPECT_EQ(json["num_requests"], result.num_requests);
  EXPECT_EQ(json["num_finished"], result.num_finished);
  EXPECT_EQ(json["num_failed"], result.num_failed);
  EXPECT_EQ(json["duration_s"], result.duration_s);
  EXPECT_EQ(json["normalized_latency_s"]["p90"], result.normalized_latency.p90);
  EXPECT_EQ(json["ttft_s"]["mean"], result.ttft.mean);
  EXPECT_EQ(json["tpot_s"]["p50"], result.tpot.p50);
  EXPECT_EQ(json["latency_s"]["p99"], result.latency.p99);
  EXPECT_EQ(json["num_batched_requests"], result.num_batched_requests);
  EXPECT_EQ(json["num_batched_sequences"], result.num_batched_sequences);
  EXPECT_EQ(json["num_waiting"], result.num_waiting);
  EXPECT_EQ(json["kv"]["token_states"], result.kv.token_states);
  EXPECT_EQ(json["kv"]["reserved"], result.kv.reserved);
  EXPECT_EQ(json["kv"]["internal"], result.kv.internal);
  EXPECT_EQ(json["kv"]["cached"], result.kv.cached);
  EXPECT_EQ(json["kv"]["free"], result.kv.free);
  EXPECT_EQ(json["token_share_of_held"], result.token_share_of_held);
  EXPECT_EQ(json["max_token_share"], result.max_token_share);
  EXPECT_EQ(json["saved_share"], result.saved_share);
  EXPECT_EQ(json["output_tokens_per_s"], result.output_tokens_per_s);
  EXPECT_EQ(json["requests_per_s"], result.requests_per_s);
  EXPECT_EQ(json["busy_share"], result.busy_share);
  EXPECT_EQ(json["num_cached_tokens"], result.num_cached_tokens);
  EXPECT_EQ(json["num_swapped_out_blocks"], result.num_swapped_out_blocks);
  EXPECT_EQ(json["num_swapped_in_blocks"], result.num_swapped_in_blocks);
  EXPECT_EQ(json["num_copied_blocks"], result.num_copied_blocks);
  EXPECT_EQ(json["num_preemptions"], result.counters.num_preemptions);
  EXPECT_EQ(json["num_steps"], result.counters.num_steps);
  EXPECT_EQ(json["num_generated_tokens"], result.counters.num_generated_tokens);
  EXPECT_EQ(json["num_prefill_tokens"], result.counters.num_prefill_tokens);
  EXPECT_EQ(json["num_wasted_tokens"], result.counters.num_wasted_tokens);
  EXPECT_EQ(json["speed"], 1000);
}

TEST(ReportTest, ARunThatTookNoTimeHasNoSpeed) {
  SimulationResult result;
  result.duration_s = 5;
  EXPECT_EQ(nlohmann::json::parse(ResultToJson(result))["speed"], 0);
  EXPECT_THAT(FormatResult(result), HasSubstr("0x)"));
}

TEST(ReportTest, TextShowsSharesInPercentAndLatenciesInSeconds) {
  SimulationResult result;
  result.num_requests = 10;
  result.num_finished = 9;
  result.num_failed = 1;
  result.duration_s = 20;
  result.wall_s = 0.5;
  result.ttft = {.mean = 0.25, .p50 = 0.125, .p90 = 0.5, .p99 = 1};
  result.kv.token_states = 0.963;
  result.saved_share = 0.0609;
  result.counters.num_preemptions = 3;
  const std::string text = FormatResult(result);
  EXPECT_THAT(text, HasSubstr("10 requests, 9 finished, 1 failed, in 20.0 "
                              "simulated s (0.50 s of real time: 40x)"));
  EXPECT_THAT(text,
              testing::ContainsRegex("TTFT +0.2500 +0.1250 +0.5000 +1.0000"));
  EXPECT_THAT(text, HasSubstr("96.3 % token states"));
  EXPECT_THAT(text, HasSubstr("sharing saves 6.1 %"));
  EXPECT_THAT(text, HasSubstr("preemptions        3 "));
}

}  // namespace
}  // namespace quire
