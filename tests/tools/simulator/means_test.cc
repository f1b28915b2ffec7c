// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/means.h"

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;

RequestSample Sample(int first_token_s, int end_s, int num_output_tokens) {
  RequestSample sample;
  sample.arrival = absl::UnixEpoch();
  sample.first_token = absl::UnixEpoch() + absl::Seconds(first_token_s);
  sample.end = absl::UnixEpoch() + absl::Seconds(end_s);
  sample.num_output_tokens = num_output_tokens;
  return sample;
}

TEST(MeansTest, StepsCountByTheirDuration) {
  RunMeans means(kBlockSize);
  EngineStats stats;
  stats.num_blocks = 10;
  stats.num_free_blocks = 10;
  stats.num_running = 1;
  means.Add(3, stats, {}, {});
  stats.num_running = 5;
  means.Add(1, stats, {}, {});
  SimulationResult result;
  means.Fill(&result);
  EXPECT_DOUBLE_EQ(result.num_batched_requests, 2);
  EXPECT_DOUBLE_EQ(result.kv.free, 1);
}

TEST(MeansTest, StepsOutsideTheWindowCountAmongTheLargestAlone) {
  RunMeans means(kBlockSize);
  EngineStats stats;
  stats.num_blocks = 10;
  stats.num_free_blocks = 8;
  means.Add(1, stats, {.num_computed_tokens = 32, .num_blocks = 2}, {});
  stats.num_free_blocks = 5;
  means.Add(0, stats, {.num_computed_tokens = 80, .num_blocks = 5}, {});
  SimulationResult result;
  means.Fill(&result);
  EXPECT_DOUBLE_EQ(result.kv.token_states, 0.2);
  EXPECT_DOUBLE_EQ(result.max_token_share, 0.5);
}

TEST(MeansTest, WhatTablesNameBeyondWhatIsHeldIsSaved) {
  RunMeans means(kBlockSize);
  EngineStats stats;
  stats.num_blocks = 10;
  stats.num_free_blocks = 4;
  // Two sequences of 64 tokens that share two blocks.
  means.Add(1, stats, {.num_computed_tokens = 128, .num_blocks = 8}, {});
  SimulationResult result;
  means.Fill(&result);
  EXPECT_DOUBLE_EQ(result.saved_share, 2. / 8);
  EXPECT_DOUBLE_EQ(result.kv.token_states, 0.6);
  EXPECT_DOUBLE_EQ(result.token_share_of_held, 1);
}

TEST(MeansTest, LatenciesArePerRequestAndPerTenant) {
  RunMeans means(kBlockSize);
  means.AddRequest(Sample(1, 11, 11), "one");
  means.AddRequest(Sample(3, 23, 11), "two");
  SimulationResult result;
  means.Fill(&result);
  EXPECT_DOUBLE_EQ(result.ttft.mean, 2);
  EXPECT_DOUBLE_EQ(result.tpot.mean, 1.5);
  EXPECT_DOUBLE_EQ(result.normalized_latency.mean, (11 + 23) / 22.);
  ASSERT_EQ(result.tenants.size(), 2);
  EXPECT_EQ(result.tenants[1].tenant, "two");
  EXPECT_DOUBLE_EQ(result.tenants[1].ttft.p99, 3);
}

}  // namespace
}  // namespace quire
