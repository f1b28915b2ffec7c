// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/engine_collector.h"

#include <prometheus/text_serializer.h>

#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/fake_engine.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(EngineCollectorTest, ReportsBlocksByWhatTheyHold) {
  FakeEngine engine;
  EngineStats stats;
  stats.num_running = 3;
  stats.num_waiting = 4;
  stats.num_blocks = 100;
  stats.num_free_blocks = 70;
  stats.num_cached_blocks = 10;
  stats.num_host_blocks = 50;
  stats.num_free_host_blocks = 15;
  stats.num_host_prefix_blocks = 30;
  engine.SetStats(stats);
  EngineCollector collector("tiny",
                            {{&engine, [] { return EngineMetrics(); }}});
  const std::string text =
      prometheus::TextSerializer().Serialize(collector.Collect());
  EXPECT_THAT(
      text,
      HasSubstr("quire_requests_running{model_name=\"tiny\",group=\"0\"} 3"));
  EXPECT_THAT(
      text,
      HasSubstr("quire_requests_waiting{model_name=\"tiny\",group=\"0\"} 4"));
  EXPECT_THAT(text, HasSubstr("quire_kv_blocks{state=\"used\",model_name="
                              "\"tiny\",group=\"0\"} 20"));
  EXPECT_THAT(text, HasSubstr("quire_kv_blocks{state=\"cached\",model_name="
                              "\"tiny\",group=\"0\"} 10"));
  EXPECT_THAT(text, HasSubstr("quire_host_kv_blocks{state=\"prefix\","
                              "model_name=\"tiny\",group=\"0\"} 30"));
  EXPECT_THAT(text, HasSubstr("quire_host_kv_blocks{state=\"preempted\","
                              "model_name=\"tiny\",group=\"0\"} 5"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "quire_kv_cache_usage_ratio{model_name=\"tiny\",group=\"0\"} 0.2"));
}

TEST(EngineCollectorTest, WaitsAreByReasonAndTokensByTenant) {
  FakeEngine engine;
  EngineMetrics metrics;
  metrics.waited[static_cast<int>(WaitReason::kNeedsBlocks)] =
      absl::Milliseconds(1500);
  metrics.tenants = {
      {.label = "other"},
      {.label = "a", .num_prompt_tokens = 7, .num_output_tokens = 8}};
  EngineCollector collector("tiny", {{&engine, [&] { return metrics; }}});
  const std::string text =
      prometheus::TextSerializer().Serialize(collector.Collect());
  EXPECT_THAT(text, HasSubstr("quire_request_wait_seconds_total{reason=\"needs_"
                              "blocks\",model_name=\"tiny\",group=\"0\"} 1.5"));
  EXPECT_THAT(text, HasSubstr("quire_request_wait_seconds_total{reason="
                              "\"resync\",model_name=\"tiny\",group=\"0\"} 0"));
  EXPECT_THAT(text, HasSubstr("quire_tenant_tokens_total{tenant=\"a\",kind="
                              "\"prompt\",model_name=\"tiny\",group=\"0\"} 7"));
  EXPECT_THAT(text, HasSubstr("quire_tenant_tokens_total{tenant=\"a\",kind="
                              "\"output\",model_name=\"tiny\",group=\"0\"} 8"));
}

TEST(EngineCollectorTest, GroupsAreToldApartAndTheirRequestsTimedTogether) {
  FakeEngine engines[2];
  EngineMetrics metrics[2];
  EngineStats stats;
  stats.num_blocks = 10;
  stats.num_free_blocks = 4;
  engines[1].SetStats(stats);
  metrics[0].counters.num_steps = 5;
  metrics[1].counters.num_steps = 6;
  metrics[1].counters.num_adopted = 3;
  for (EngineMetrics& each : metrics) {
    RequestSample sample;
    sample.arrival = absl::UnixEpoch();
    sample.first_scheduled = sample.arrival + absl::Seconds(1);
    each.requests.push_back(sample);
  }
  EngineCollector collector("tiny",
                            {{&engines[0], [&] { return metrics[0]; }},
                             {&engines[1], [&] { return metrics[1]; }}});
  const std::string text =
      prometheus::TextSerializer().Serialize(collector.Collect());
  EXPECT_THAT(text, HasSubstr("quire_kv_blocks{state=\"used\",model_name="
                              "\"tiny\",group=\"1\"} 6"));
  EXPECT_THAT(text, HasSubstr("quire_steps_total{model_name=\"tiny\",group="
                              "\"0\"} 5"));
  EXPECT_THAT(text, HasSubstr("quire_steps_total{model_name=\"tiny\",group="
                              "\"1\"} 6"));
  EXPECT_THAT(text, HasSubstr("quire_adopted_requests_total{model_name=\"tiny\""
                              ",group=\"1\"} 3"));
  EXPECT_THAT(text, HasSubstr("quire_queue_seconds_count{model_name=\"tiny\"} "
                              "2"));
  // A family is told once, whoever it is of.
  const size_t first = text.find("# TYPE quire_steps_total");
  EXPECT_EQ(text.find("# TYPE quire_steps_total", first + 1),
            std::string::npos);
}

TEST(EngineCollectorTest, SamplesAddUpOverScrapes) {
  FakeEngine engine;
  EngineMetrics metrics;
  metrics.counters.num_generated_tokens = 9;
  metrics.counters.num_cache_query_tokens = 60;
  metrics.counters.num_cache_hit_tokens = 40;
  metrics.counters.num_host_hit_tokens = 16;
  RequestSample sample;
  sample.arrival = absl::UnixEpoch();
  sample.first_scheduled = sample.arrival + absl::Seconds(1);
  sample.first_token = sample.arrival + absl::Seconds(3);
  metrics.requests.push_back(sample);
  metrics.requests.push_back(RequestSample());  // never scheduled
  EngineCollector collector("tiny", {{&engine, [&] { return metrics; }}});
  collector.Collect();
  const std::string text =
      prometheus::TextSerializer().Serialize(collector.Collect());
  EXPECT_THAT(
      text,
      HasSubstr(
          "quire_generation_tokens_total{model_name=\"tiny\",group=\"0\"} 9"));
  EXPECT_THAT(text, HasSubstr("quire_prefix_cache_query_tokens_total{"
                              "model_name=\"tiny\",group=\"0\"} 60"));
  EXPECT_THAT(text,
              HasSubstr("quire_prefix_cache_hit_tokens_total{tier="
                        "\"device\",model_name=\"tiny\",group=\"0\"} 24"));
  EXPECT_THAT(text, HasSubstr("quire_prefix_cache_hit_tokens_total{tier="
                              "\"host\",model_name=\"tiny\",group=\"0\"} 16"));
  EXPECT_THAT(text, HasSubstr("quire_queue_seconds_count{model_name=\"tiny\"} "
                              "2"));
  EXPECT_THAT(text,
              HasSubstr("quire_queue_seconds_sum{model_name=\"tiny\"} 2"));
  EXPECT_THAT(text,
              HasSubstr("quire_prefill_seconds_sum{model_name=\"tiny\"} 4"));
}

}  // namespace
}  // namespace quire
