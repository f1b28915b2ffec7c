// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/statistics.h"

#include <gtest/gtest.h>

namespace quire {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

absl::Time At(double ms) { return kStart + absl::Milliseconds(ms); }

// Completed, sent at `sent_ms`, one token at each of `token_ms`.
RequestRecord Record(double sent_ms, const std::vector<double>& token_ms) {
  RequestRecord record;
  record.outcome = RequestOutcome::kCompleted;
  record.arrival = record.sent = At(sent_ms);
  record.num_prompt_tokens = 10;
  for (const double ms : token_ms) {
    record.arrivals.push_back({At(ms), 1});
    record.sequences.resize(1);
    record.sequences[0].token_ids.push_back(0);
  }
  record.end = At(token_ms.empty() ? sent_ms : token_ms.back() + 1);
  return record;
}

TEST(StatisticsTest, LatenciesFollowVllmsDefinitions) {
  const RequestRecord record = Record(100, {150, 160, 190});
  EXPECT_DOUBLE_EQ(TtftMs(record), 50);
  EXPECT_DOUBLE_EQ(E2elMs(record), 90);
  // The first token is excluded: (90 - 50) / 2.
  EXPECT_DOUBLE_EQ(TpotMs(record), 20);
  EXPECT_EQ(ItlMs(record), (std::vector<double>{10, 30}));
}

TEST(StatisticsTest, AMessageOfSeveralTokensIsOneGapButManyTokens) {
  RequestRecord record = Record(0, {10});
  record.arrivals.push_back({At(40), 3});
  record.sequences[0].token_ids.resize(4);
  EXPECT_EQ(ItlMs(record), (std::vector<double>{30}));
  EXPECT_DOUBLE_EQ(TpotMs(record), 10);
}

TEST(StatisticsTest, OfSeveralSequencesTheLongestSaysTheTimePerToken) {
  RequestRecord record = Record(0, {10, 40});
  record.sequences.push_back({.token_ids = {1, 2, 3}});
  record.arrivals.push_back({At(12), 1, /*index=*/1});
  record.arrivals.push_back({At(60), 2, /*index=*/1});
  // Gaps are a sequence's own.
  EXPECT_EQ(ItlMs(record), (std::vector<double>{30, 48}));
  EXPECT_DOUBLE_EQ(TpotMs(record), 25);  // (60 - 10) / 2
  EXPECT_EQ(record.num_output_tokens(), 5);
}

TEST(StatisticsTest, PercentilesInterpolateLinearly) {
  const std::vector<double> values = {1, 2, 3, 4};
  EXPECT_DOUBLE_EQ(Percentile(values, 0), 1);
  EXPECT_DOUBLE_EQ(Percentile(values, 50), 2.5);
  EXPECT_DOUBLE_EQ(Percentile(values, 99), 3.97);
  EXPECT_DOUBLE_EQ(Percentile(values, 100), 4);
  EXPECT_DOUBLE_EQ(Percentile({7}, 99), 7);
  EXPECT_DOUBLE_EQ(Percentile({}, 99), 0);
}

TEST(StatisticsTest, TheDeviationIsThePopulations) {
  const LatencySummary summary = Summarize({9, 2, 4, 4, 4, 5, 5, 7}, {90});
  EXPECT_DOUBLE_EQ(summary.mean_ms, 5);
  EXPECT_DOUBLE_EQ(summary.median_ms, 4.5);
  EXPECT_DOUBLE_EQ(summary.std_ms, 2);
  EXPECT_DOUBLE_EQ(summary.percentiles_ms.at(90), 7.6);
}

TEST(StatisticsTest, OnlyCompletedRequestsCount) {
  RequestRecord failed = Record(0, {500});
  failed.outcome = RequestOutcome::kFailed;
  RequestRecord cancelled = Record(0, {900});
  cancelled.outcome = RequestOutcome::kCancelled;
  const RunMetrics metrics = ComputeMetrics(
      {Record(0, {10, 20}), failed, cancelled}, absl::Seconds(2), {}, {50});
  EXPECT_EQ(metrics.num_completed, 1);
  EXPECT_EQ(metrics.num_failed, 1);
  EXPECT_EQ(metrics.num_cancelled, 1);
  EXPECT_EQ(metrics.num_input_tokens, 10);
  EXPECT_EQ(metrics.num_output_tokens, 2);
  EXPECT_DOUBLE_EQ(metrics.request_throughput, 0.5);
  EXPECT_DOUBLE_EQ(metrics.output_throughput, 1);
  EXPECT_DOUBLE_EQ(metrics.total_token_throughput, 6);
  EXPECT_DOUBLE_EQ(metrics.ttft.mean_ms, 10);
}

TEST(StatisticsTest, TpotLeavesOutRequestsOfOneToken) {
  const RunMetrics metrics = ComputeMetrics(
      {Record(0, {10}), Record(0, {10, 30})}, absl::Seconds(1), {}, {50});
  EXPECT_DOUBLE_EQ(metrics.tpot.mean_ms, 20);
  EXPECT_DOUBLE_EQ(metrics.e2el.mean_ms, 20);
}

TEST(StatisticsTest, GoodRequestsKeepEveryLimit) {
  const RequestRecord record = Record(0, {50, 70});  // ttft 50, tpot 20
  EXPECT_TRUE(IsGood(record, {}));
  EXPECT_TRUE(IsGood(record, {.ttft_ms = 50, .tpot_ms = 20, .e2el_ms = 70}));
  EXPECT_FALSE(IsGood(record, {.ttft_ms = 49}));
  EXPECT_FALSE(IsGood(record, {.ttft_ms = 50, .tpot_ms = 19}));
  EXPECT_FALSE(IsGood(record, {.e2el_ms = 69}));
  // Without a second token there is no TPOT to miss.
  EXPECT_TRUE(IsGood(Record(0, {50}), {.tpot_ms = 0}));
}

TEST(StatisticsTest, GoodputCountsGoodRequestsPerSecond) {
  const RunMetrics metrics =
      ComputeMetrics({Record(0, {10}), Record(0, {100}), Record(0, {20})},
                     absl::Seconds(2), {.ttft_ms = 50}, {50});
  EXPECT_DOUBLE_EQ(metrics.request_goodput, 1);
}

TEST(StatisticsTest, PeaksAreThoseOfTheBusiestSecond) {
  const RunMetrics metrics =
      ComputeMetrics({Record(0, {100, 200, 1100}),
                      Record(1500, {1600, 1700, 1800}), Record(3000, {3100})},
                     absl::Seconds(4), {}, {50});
  // Second 1 sees the first request's end and the whole second one.
  EXPECT_DOUBLE_EQ(metrics.max_output_tokens_per_s, 4);
  EXPECT_EQ(metrics.max_concurrent_requests, 2);
}

TEST(StatisticsTest, ClientQueueingIsApartFromLatency) {
  RequestRecord record = Record(100, {150});
  record.arrival = At(20);
  const RunMetrics metrics =
      ComputeMetrics({record}, absl::Seconds(1), {}, {50});
  EXPECT_DOUBLE_EQ(metrics.client_queue.mean_ms, 80);
  EXPECT_DOUBLE_EQ(metrics.ttft.mean_ms, 50);
}

TEST(StatisticsTest, NothingCompletedIsAllZeros) {
  const RunMetrics metrics = ComputeMetrics({}, absl::ZeroDuration(), {}, {99});
  EXPECT_EQ(metrics.request_throughput, 0);
  EXPECT_EQ(metrics.ttft.percentiles_ms.at(99), 0);
  EXPECT_EQ(metrics.max_concurrent_requests, 0);
}

}  // namespace
}  // namespace quire
