// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kDate = absl::FromCivil(
    absl::CivilSecond(2026, 11, 22, 9, 30, 0), absl::UTCTimeZone());

LatencySummary Summary(double ms) {
  return {.mean_ms = ms,
          .median_ms = ms + 1,
          .std_ms = 0.5,
          .percentiles_ms = {
              {50, ms + 1}, {90, ms + 2}, {95, ms + 3}, {99, ms + 4.125}}};
}

RunMetrics Metrics() {
  RunMetrics metrics;
  metrics.num_completed = 98;
  metrics.num_failed = 2;
  metrics.duration_s = 12.5;
  metrics.num_input_tokens = 9800;
  metrics.num_output_tokens = 4900;
  metrics.request_throughput = 7.84;
  metrics.request_goodput = 7.5;
  metrics.output_throughput = 392;
  metrics.total_token_throughput = 1176;
  metrics.max_output_tokens_per_s = 500;
  metrics.max_concurrent_requests = 31;
  metrics.ttft = Summary(100);
  metrics.tpot = Summary(20);
  metrics.itl = Summary(19);
  metrics.e2el = Summary(1000);
  metrics.client_queue = Summary(3);
  return metrics;
}

TEST(ReportTest, TheConsoleBlockIsVllms) {
  LoadgenOptions options;
  options.arrival.request_rate = 8;
  options.goodput.ttft_ms = 200;
  EXPECT_EQ(ConsoleBlock(options, Metrics()),
            R"(============ Serving Benchmark Result ============
Successful requests:                     98        
Failed requests:                         2         
Request rate configured (RPS):           8.00      
Benchmark duration (s):                  12.50     
Total input tokens:                      9800      
Total generated tokens:                  4900      
Request throughput (req/s):              7.84      
Request goodput (req/s):                 7.50      
Output token throughput (tok/s):         392.00    
Peak output token throughput (tok/s):    500.00    
Peak concurrent requests:                31        
Total token throughput (tok/s):          1176.00   
---------------Time to First Token----------------
Mean TTFT (ms):                          100.00    
Median TTFT (ms):                        101.00    
P99 TTFT (ms):                           104.12    
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          20.00     
Median TPOT (ms):                        21.00     
P99 TPOT (ms):                           24.12     
---------------Inter-token Latency----------------
Mean ITL (ms):                           19.00     
Median ITL (ms):                         20.00     
P99 ITL (ms):                            23.12     
----------------End-to-end Latency----------------
Mean E2EL (ms):                          1000.00   
Median E2EL (ms):                        1001.00   
P99 E2EL (ms):                           1004.12   
==================================================
)");
}

TEST(ReportTest, TheConsoleShowsWhatWasChosen) {
  LoadgenOptions options;
  options.percentile_metrics = {"ttft"};
  options.console_percentiles = {50, 90};
  options.max_concurrency = 4;
  const std::string block = ConsoleBlock(options, Metrics());
  EXPECT_THAT(block, HasSubstr("P90 TTFT (ms):"));
  EXPECT_THAT(block, Not(HasSubstr("P99 TTFT (ms):")));
  EXPECT_THAT(block, Not(HasSubstr("TPOT")));
  EXPECT_THAT(block, Not(HasSubstr("goodput")));
  EXPECT_THAT(block, Not(HasSubstr("Request rate configured")));
  EXPECT_THAT(block, HasSubstr("Maximum request concurrency:             4"));
  EXPECT_THAT(block, HasSubstr("Mean queueing (ms):"));
}

TEST(ReportTest, TheJsonHasVllmsKeys) {
  LoadgenOptions options;
  options.model = "fake";
  options.metadata = {{"commit", "abc"}};
  const nlohmann::ordered_json json =
      ResultJson(options, Metrics(), {}, /*verify=*/nullptr, kDate);
  for (const char* key : {"date",
                          "backend",
                          "endpoint_type",
                          "label",
                          "model_id",
                          "tokenizer_id",
                          "num_prompts",
                          "request_rate",
                          "burstiness",
                          "max_concurrency",
                          "duration",
                          "completed",
                          "failed",
                          "total_input_tokens",
                          "total_output_tokens",
                          "request_throughput",
                          "request_goodput",
                          "output_throughput",
                          "total_token_throughput",
                          "max_output_tokens_per_s",
                          "max_concurrent_requests"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  for (const std::string metric : {"ttft", "tpot", "itl", "e2el"}) {
    for (const std::string statistic :
         {"mean", "median", "std", "p50", "p90", "p95", "p99"}) {
      EXPECT_TRUE(json.contains(statistic + "_" + metric + "_ms"))
          << statistic << metric;
    }
  }
  EXPECT_EQ(json["date"], "20261122-093000");
  EXPECT_EQ(json["request_rate"], "inf");
  EXPECT_EQ(json["model_id"], "fake");
  EXPECT_EQ(json["completed"], 98);
  EXPECT_EQ(json["p99_ttft_ms"], 104.125);
  EXPECT_EQ(json["commit"], "abc");
  EXPECT_TRUE(json["request_goodput"].is_null());
  EXPECT_FALSE(json.contains("ttfts"));
  EXPECT_FALSE(json.contains("differing"));
}

TEST(ReportTest, ARampIsToldWithItsRates) {
  LoadgenOptions options;
  options.model = "fake";
  EXPECT_FALSE(ResultJson(options, Metrics(), {}, nullptr, kDate)
                   .contains("ramp_up_strategy"));
  options.arrival.ramp_up = RampUp::kExponential;
  options.arrival.ramp_up_start_rps = 0.5;
  options.arrival.ramp_up_end_rps = 40;
  const nlohmann::ordered_json json =
      ResultJson(options, Metrics(), {}, /*verify=*/nullptr, kDate);
  EXPECT_EQ(json["ramp_up_strategy"], "exponential");
  EXPECT_EQ(json["ramp_up_start_rps"], 0.5);
  EXPECT_EQ(json["ramp_up_end_rps"], 40);
  EXPECT_EQ(ResultFilename(options, kDate),
            "grpc-ramp-up-exponential-0.5qps-40qps-fake-20261122-093000.json");
  options.arrival.ramp_up = RampUp::kLinear;
  EXPECT_EQ(
      ResultJson(options, Metrics(), {}, nullptr, kDate)["ramp_up_strategy"],
      "linear");
}

TEST(ReportTest, DetailsAreThoseOfEveryRequest) {
  LoadgenOptions options;
  options.save_detailed = true;
  RunResult run;
  run.start = kDate;
  RequestRecord record;
  record.sent = kDate + absl::Seconds(1);
  record.num_prompt_tokens = 5;
  record.arrivals = {{kDate + absl::Milliseconds(1500), 1},
                     {kDate + absl::Milliseconds(1750), 1}};
  record.sequences = {{.token_ids = {1, 2}, .text = "hi"}};
  record.error = "broke";
  run.records = {record};
  const nlohmann::ordered_json json =
      ResultJson(options, Metrics(), run, /*verify=*/nullptr, kDate);
  EXPECT_EQ(json["input_lens"].dump(), "[5]");
  EXPECT_EQ(json["output_lens"].dump(), "[2]");
  EXPECT_EQ(json["ttfts"].dump(), "[0.5]");
  EXPECT_EQ(json["itls"].dump(), "[[0.25]]");
  EXPECT_EQ(json["latencies"].dump(), "[0.75]");
  EXPECT_EQ(json["start_times"].dump(), "[1.0]");
  EXPECT_EQ(json["generated_texts"].dump(), "[\"hi\"]");
  EXPECT_EQ(json["errors"].dump(), "[\"broke\"]");
  run.records[0].sequences.push_back({.token_ids = {3}, .text = "ho"});
  EXPECT_EQ(
      ResultJson(options, Metrics(), run, nullptr, kDate)["generated_texts"]
          .dump(),
      "[[\"hi\",\"ho\"]]");
}

TEST(ReportTest, ACancelledRequestIsNoCompletedOne) {
  LoadgenOptions options;
  options.save_detailed = true;
  RunResult run;
  run.records.resize(2);
  run.records[0].outcome = RequestOutcome::kCompleted;
  run.records[1].outcome = RequestOutcome::kCancelled;
  const nlohmann::ordered_json json =
      ResultJson(options, Metrics(), run, /*verify=*/nullptr, kDate);
  EXPECT_EQ(json["errors"].dump(), "[\"\",\"cancelled\"]");
}

TEST(ReportTest, AVerifiedRunSaysHowManyStreamsDiffered) {
  VerifyResult verify;
  verify.num_compared = 98;
  verify.num_differing = 1;
  const nlohmann::ordered_json json =
      ResultJson({}, Metrics(), {}, &verify, kDate);
  EXPECT_EQ(json["compared"], 98);
  EXPECT_EQ(json["differing"], 1);
}

TEST(ReportTest, TheFileIsNamedAfterTheRun) {
  LoadgenOptions options;
  options.model = "org/fake";
  EXPECT_EQ(ResultFilename(options, kDate),
            "grpc-infqps-org_fake-20261122-093000.json");
  options.label = "base";
  options.arrival.request_rate = 2.5;
  options.max_concurrency = 8;
  EXPECT_EQ(ResultFilename(options, kDate),
            "base-2.5qps-concurrency8-org_fake-20261122-093000.json");
  options.result_filename = "mine.json";
  EXPECT_EQ(ResultFilename(options, kDate), "mine.json");
}

}  // namespace
}  // namespace quire
