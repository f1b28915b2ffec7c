// SPDX-License-Identifier: Apache-2.0
//
// Read back as the text that Prometheus scrapes.
#include "common/metrics/request_metrics.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

std::string Scrape(const prometheus::Registry& registry) {
  return prometheus::TextSerializer().Serialize(registry.Collect());
}

TEST(RequestMetricsTest, CountsRequestsByCodeAndReason) {
  prometheus::Registry registry;
  RequestMetrics metrics("tiny", &registry);
  RequestMetrics::Outcome outcome;
  outcome.code = "OK";
  outcome.finish_reason = "stop";
  metrics.ObserveOutcome(outcome);
  metrics.ObserveOutcome(outcome);
  EXPECT_THAT(Scrape(registry),
              HasSubstr("quire_requests_total{code=\"OK\",finish_reason="
                        "\"stop\",model_name=\"tiny\"} 2"));
}

TEST(RequestMetricsTest, TokensThatArriveTogetherShareTheirGap) {
  prometheus::Registry registry;
  RequestMetrics metrics("tiny", &registry);
  metrics.ObserveTokens(absl::Seconds(1), /*num_tokens=*/4);
  const std::string text = Scrape(registry);
  EXPECT_THAT(text, HasSubstr("quire_inter_token_latency_seconds_count"
                              "{model_name=\"tiny\"} 4"));
  EXPECT_THAT(text, HasSubstr("quire_inter_token_latency_seconds_sum"
                              "{model_name=\"tiny\"} 1"));
}

TEST(RequestMetricsTest, TimePerOutputTokenLeavesOutTheFirst) {
  prometheus::Registry registry;
  RequestMetrics metrics("tiny", &registry);
  RequestMetrics::Outcome outcome;
  outcome.decode = absl::Seconds(4);
  outcome.num_output_tokens = 8;  // of two sequences
  outcome.num_longest_tokens = 5;
  metrics.ObserveOutcome(outcome);
  EXPECT_THAT(Scrape(registry),
              HasSubstr("quire_request_time_per_output_token_seconds_sum"
                        "{model_name=\"tiny\"} 1"));
}

TEST(RequestMetricsTest, OneTokenHasNoDecodeTime) {
  prometheus::Registry registry;
  RequestMetrics metrics("tiny", &registry);
  RequestMetrics::Outcome outcome;
  outcome.num_output_tokens = 1;
  metrics.ObserveOutcome(outcome);
  EXPECT_THAT(Scrape(registry),
              HasSubstr("quire_decode_seconds_count{model_name=\"tiny\"} 0"));
}

}  // namespace
}  // namespace quire
