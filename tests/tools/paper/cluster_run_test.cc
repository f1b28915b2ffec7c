// SPDX-License-Identifier: Apache-2.0
//
// Real runs on CPU workers: what simulations are made of, in real time.
#include "tools/paper/cluster_run.h"

#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"
#include "tools/simulator/serving_system.h"

namespace quire {
namespace {

// A pool of 40 blocks of 16 tokens, as 640 slots say.
SimulationOptions Options(const std::string& system) {
  SimulationOptions options;
  options.engine.max_model_len = 256;
  options.engine.max_num_seqs = 16;
  options.engine.preemption_mode = PreemptionMode::kRecompute;
  options.cost.kv_slots = 640;
  options.cost.kv_bytes_per_token = 1;
  ApplyServingSystem(*FindServingSystem(system), &options);
  return options;
}

ClusterOptions Cluster() {
  return {.quire = Runfile("tools/quire/quire"),
          .device = "cpu",
          .model = ModelFolder("tools/demo_model/model"),
          .folder = testing::TempDir()};
}

// More than the pool holds, `rate` a second.
std::vector<SimulatedRequest> Flood(int32_t num_sequences, int32_t beam_width,
                                    double rate = 1000) {
  return MakeWorkload({{40, 30}, {10, 60}}, {.rate = rate,
                                             .num_requests = 30,
                                             .num_sequences = num_sequences,
                                             .beam_width = beam_width});
}

SimulationResult Serve(const SimulationOptions& options,
                       const std::vector<SimulatedRequest>& requests) {
  const auto result = RunOnCluster(Cluster(), options, requests);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *result : SimulationResult();
}

TEST(ClusterRunTest, PagingRunsMoreRequestsAtATimeThanReservations) {
  const SimulationResult ours = Serve(Options("paged"), Flood(1, 0));
  const SimulationResult theirs = Serve(Options("orca_max"), Flood(1, 0));
  EXPECT_EQ(ours.num_finished, 30);
  EXPECT_EQ(theirs.num_finished, 30);
  EXPECT_GT(ours.normalized_latency.mean, 0);
  EXPECT_GT(ours.output_tokens_per_s, 0);
  // 256 tokens are 16 blocks of 40, so two fit.
  EXPECT_LE(theirs.max_token_share, 2 * 70 / 640.);
  EXPECT_GT(ours.max_token_share, theirs.max_token_share);
}

TEST(ClusterRunTest, ServesSamplesAndBeams) {
  EXPECT_EQ(Serve(Options("paged"), Flood(3, 0)).num_finished, 30);
  EXPECT_EQ(Serve(Options("paged"), Flood(1, 2)).num_finished, 30);
}

TEST(ClusterRunTest, StopsAtTheLastArrival) {
  SimulationOptions options = Options("paged");
  options.stop_at_last_arrival = true;
  // What came last cannot have ended, and a slow machine may not have sent it.
  const SimulationResult result = Serve(options, Flood(1, 0, /*rate=*/40));
  EXPECT_GT(result.num_requests, 0);
  EXPECT_LE(result.num_requests, 30);
  EXPECT_LT(result.num_finished, result.num_requests);
}

TEST(ClusterRunTest, SwapSpaceIsForThoseThatSwap) {
  SimulationOptions options = Options("paged");
  options.cost.kv_bytes_per_token = 1 << 20;
  options.cost.host_block_bytes = double{1 << 30};
  options.cost.swap_bandwidth = 1e10;
  const auto has = [&](const std::string& flag) {
    for (const std::string& given : ServeFlagsFor(options)) {
      if (given == flag) return true;
    }
    return false;
  };
  EXPECT_TRUE(has("--swap_space=0"));
  EXPECT_TRUE(has("--num_gpu_blocks_override=40"));
  options.engine.preemption_mode = PreemptionMode::kSwap;
  EXPECT_TRUE(has("--swap_space=1"));
  EXPECT_TRUE(has("--preemption_mode=swap"));
}

}  // namespace
}  // namespace quire
