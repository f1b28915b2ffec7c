// SPDX-License-Identifier: Apache-2.0
//
// A recorded simulation measures what the simulation itself says.
#include "tools/paper/recorded_run.h"

#include <filesystem>
#include <fstream>
#include <memory>

#include "coordinator/recording/recorder.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

SimulationOptions Options() {
  SimulationOptions options;
  options.engine.max_num_seqs = 32;
  options.engine.run_ahead_depth = 1;
  options.engine.preemption_mode = PreemptionMode::kSwap;
  options.cost = {.name = "test",
                  .source = "",
                  .weight_bytes = 1e9,
                  .gemm_flops = 1e9,
                  .kv_bytes_per_token = 1e5,
                  .num_layers = 4,
                  .hidden_size = 256,
                  .bandwidth = 1e11,
                  .peak_flops = 1e14,
                  .kv_slots = 4000,
                  .swap_bandwidth = 1e10,
                  .host_block_bytes = 1e9};
  return options;
}

std::vector<SimulatedRequest> Requests(int32_t num_sequences) {
  return MakeWorkload(
      {{100, 60}, {30, 200}, {250, 20}},
      {.rate = 60, .num_requests = 300, .num_sequences = num_sequences});
}

std::string Record(const SimulationOptions& options,
                   const std::vector<SimulatedRequest>& requests,
                   SimulationResult* simulated) {
  const std::string path = testing::TempDir() + "/run.quire";
  auto recorder = Recorder::Open(path, options.engine);
  EXPECT_TRUE(recorder.ok()) << recorder.status();
  SimulationOptions recorded = options;
  recorded.observer = recorder->get();
  auto result = Simulate(recorded, requests);
  EXPECT_TRUE(result.ok()) << result.status();
  *simulated = *result;
  EXPECT_TRUE((*recorder)->Close().ok());
  return path;
}

TEST(RecordedRunTest, MeasuresWhatTheSimulationSays) {
  for (const int32_t num_sequences : {1, 3}) {
    const SimulationOptions options = Options();
    const auto requests = Requests(num_sequences);
    SimulationResult simulated;
    const std::string path = Record(options, requests, &simulated);
    const auto measured = MeasureRecording(path, options, requests);
    ASSERT_TRUE(measured.ok()) << measured.status();
    EXPECT_EQ(measured->num_requests, 300);
    EXPECT_EQ(measured->num_finished, 300);
    EXPECT_EQ(measured->num_failed, 0);
    // The same times in whole nanoseconds, one of which is 1e-6 of a step; the
    // windows begin an arrival apart, which is up to a few steps of hundreds.
    EXPECT_NEAR(measured->normalized_latency.mean,
                simulated.normalized_latency.mean,
                1e-6 * simulated.normalized_latency.mean);
    EXPECT_NEAR(measured->ttft.p99, simulated.ttft.p99,
                1e-6 * simulated.ttft.p99);
    EXPECT_NEAR(measured->num_batched_requests, simulated.num_batched_requests,
                0.02 * simulated.num_batched_requests);
    EXPECT_NEAR(measured->kv.token_states, simulated.kv.token_states, 0.02);
    EXPECT_NEAR(measured->kv.free, simulated.kv.free, 0.02);
    EXPECT_NEAR(measured->saved_share, simulated.saved_share, 0.01);
    EXPECT_EQ(measured->num_swapped_out_blocks,
              simulated.num_swapped_out_blocks);
    EXPECT_GT(simulated.num_swapped_out_blocks, 0);
    EXPECT_EQ(measured->num_copied_blocks, simulated.num_copied_blocks);
  }
}

TEST(RecordedRunTest, LeavesOutWhatEndsAfterTheLastArrival) {
  SimulationOptions options = Options();
  const auto requests = Requests(1);
  SimulationResult simulated;
  const std::string path = Record(options, requests, &simulated);
  options.stop_at_last_arrival = true;
  const auto measured = MeasureRecording(path, options, requests);
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->num_requests, 300);
  EXPECT_LT(measured->num_finished, 300);
  EXPECT_GT(measured->num_finished, 50);
}

TEST(RecordedRunTest, ARecordingThatWasCutOffIsNoRun) {
  SimulationResult simulated;
  const auto requests = Requests(1);
  const std::string path = Record(Options(), requests, &simulated);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 3);
  EXPECT_EQ(MeasureRecording(path, Options(), requests).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace quire
