// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/simulation.h"

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tools/simulator/data_file.h"
#include "tools/simulator/report.h"
#include "tools/simulator/serving_system.h"

namespace quire {
namespace {

SimulationOptions Options(const std::string& system = "paged") {
  SimulationOptions options;
  options.cost = *LoadCostModel(PresetFile("a100_40g_opt13b"));
  options.engine.max_num_batched_tokens = 2560;
  options.engine.run_ahead_depth = 1;
  options.invariants_period = 1000;
  ApplyServingSystem(*FindServingSystem(system), &options);
  return options;
}

std::vector<SimulatedRequest> Requests(double rate, int64_t num_requests,
                                       uint64_t seed = 1) {
  return MakeWorkload(
      *ReadLengths(WorkloadFile("sharegpt")),
      {.rate = rate, .num_requests = num_requests, .seed = seed});
}

std::string Fingerprint(SimulationResult result) {
  result.wall_s = 0;
  return ResultToJson(result);
}

TEST(SimulationTest, FollowsFromItsSeed) {
  const auto once = Simulate(Options(), Requests(2, 300));
  const auto again = Simulate(Options(), Requests(2, 300));
  const auto other = Simulate(Options(), Requests(2, 300, 2));
  ASSERT_TRUE(once.ok() && again.ok() && other.ok()) << once.status();
  EXPECT_EQ(Fingerprint(*once), Fingerprint(*again));
  EXPECT_NE(Fingerprint(*once), Fingerprint(*other));
}

// CheckInvariants runs at the end of each and every 1,000 steps of each.
TEST(SimulationTest, EveryRequestFinishesAndEveryTokenIsCounted) {
  for (int32_t block_size : {1, 16, 256}) {
    for (int32_t depth : {1, 2}) {
      SimulationOptions options = Options();
      options.engine.block_size = block_size;
      options.engine.run_ahead_depth = depth;
      const auto requests = Requests(3, 400);
      int64_t num_tokens = 0;
      for (const auto& request : requests) num_tokens += request.output_len;
      const auto result = Simulate(options, requests);
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->num_finished, 400);
      EXPECT_EQ(result->num_failed, 0);
      EXPECT_EQ(result->counters.num_generated_tokens, num_tokens);
    }
  }
}

TEST(SimulationTest, SharesOfThePoolAddUpToOne) {
  const auto result = Simulate(Options(), Requests(3, 400));
  ASSERT_TRUE(result.ok()) << result.status();
  const KvShares& kv = result->kv;
  EXPECT_NEAR(kv.token_states + kv.reserved + kv.internal + kv.cached + kv.free,
              1, 1e-6);
  EXPECT_GT(kv.token_states, 0.5);
}

TEST(SimulationTest, ALoneRequestTakesTheTimeOfItsSteps) {
  SimulationOptions options = Options();
  const auto result =
      Simulate(options, {{.prompt_len = 100, .output_len = 10}});
  ASSERT_TRUE(result.ok()) << result.status();
  double seconds = StepSeconds(options.cost,
                               {.num_sequences = 1,
                                .num_tokens = 100,
                                .num_kv_tokens = 100,
                                .num_attention_pairs = 100 * 101 / 2.},
                               16, false);
  EXPECT_NEAR(result->ttft.mean, seconds, 1e-8);
  for (int64_t context = 101; context < 110; ++context) {
    seconds += StepSeconds(
        options.cost,
        {.num_sequences = 1, .num_tokens = 1, .num_kv_tokens = context}, 16,
        false);
  }
  // Each of the ten steps is rounded down to a nanosecond.
  EXPECT_NEAR(result->latency.mean, seconds, 1e-8);
}

TEST(SimulationTest, ABatchThatIsAnsweredWholeTakesAsLongAsItsLongest) {
  const std::vector<SimulatedRequest> requests = {
      {.prompt_len = 10, .output_len = 2},
      {.prompt_len = 10, .output_len = 200}};
  SimulationOptions options = Options("static_batch");
  const auto streamed = Simulate(options, requests);
  options.answers_by_batch = true;
  const auto whole = Simulate(options, requests);
  ASSERT_TRUE(streamed.ok() && whole.ok()) << whole.status();
  EXPECT_EQ(whole->num_finished, 2);
  EXPECT_LT(streamed->latency.p50, streamed->latency.p99);
  EXPECT_DOUBLE_EQ(whole->latency.p50, whole->latency.p99);
  EXPECT_DOUBLE_EQ(whole->ttft.mean, whole->latency.mean);
}

TEST(SimulationTest, RunsFasterThanItPretends) {
  const auto result = Simulate(Options(), Requests(2, 1000));
  ASSERT_TRUE(result.ok()) << result.status();
  std::cout << "simulated " << result->duration_s / result->wall_s
            << " times faster than real time\n";
}

}  // namespace
}  // namespace quire
