// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/advice.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

AdviceRequest Request() {
  AdviceRequest request;
  request.cost = *LoadCostModel(PresetFile("h200_opt13b_15k7"));
  request.engine.block_size = 256;
  request.lengths = *ReadLengths(WorkloadFile("alpaca"));
  request.rate = 150;
  request.num_requests = 600;
  return request;
}

TEST(AdviceTest, TheAdviceIsNoWorseThanTheStart) {
  const auto trials = FindAdvice(Request());
  ASSERT_TRUE(trials.ok()) << trials.status();
  ASSERT_GT(trials->size(), 10);
  EXPECT_EQ(trials->front().changed, "start");
  const Trial* best = nullptr;
  for (const Trial& trial : *trials) {
    if (trial.chosen) best = &trial;
  }
  ASSERT_NE(best, nullptr);
  EXPECT_LE(best->result.normalized_latency.mean,
            trials->front().result.normalized_latency.mean);
  // 61 blocks of 256 hold 61 sequences of 78 tokens; about 90 come at once.
  EXPECT_LT(best->engine.block_size, 256);
}

TEST(AdviceTest, NoTrialIsMadeTwice) {
  const auto trials = FindAdvice(Request());
  ASSERT_TRUE(trials.ok()) << trials.status();
  std::vector<std::string> flags;
  for (const Trial& trial : *trials) {
    flags.push_back(FlagsToPaste(trial.engine));
  }
  std::sort(flags.begin(), flags.end());
  EXPECT_EQ(std::adjacent_find(flags.begin(), flags.end()), flags.end());
}

TEST(AdviceTest, FlagsAreThoseOfTheCoordinator) {
  EngineOptions engine;
  engine.block_size = 32;
  engine.max_num_batched_tokens = 512;
  engine.max_num_seqs = 64;
  engine.preemption_mode = PreemptionMode::kSwap;
  engine.watermark = 0.03;
  EXPECT_EQ(FlagsToPaste(engine),
            "--block_size=32 --max_num_batched_tokens=512 --max_num_seqs=64 "
            "--preemption_mode=swap --watermark=0.03");
}

}  // namespace
}  // namespace quire
