// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/plan.h"

#include <gtest/gtest.h>

#include <set>

namespace quire {
namespace {

std::vector<LoadPrompt> Prompts(int64_t num) {
  LoadPrompt prompt;
  prompt.token_ids = {1, 2, 3};
  prompt.output_len = 9;
  return std::vector<LoadPrompt>(num, prompt);
}

TEST(PlanTest, CallsCarryThePromptAndTheSampling) {
  LoadgenOptions options;
  options.model = "fake";
  options.temperature = 0.5;
  options.top_k = -1;
  options.ignore_eos = true;
  const auto calls = PlanRun(options, Prompts(2), "id-");
  ASSERT_EQ(calls.size(), 2);
  const v1::GenerateRequest& request = calls[1].call.request;
  EXPECT_EQ(request.request_id(), "id-1");
  EXPECT_EQ(request.model(), "fake");
  EXPECT_EQ(request.token_ids().ids_size(), 3);
  EXPECT_EQ(request.sampling().max_tokens(), 9);
  EXPECT_EQ(request.sampling().temperature(), 0.5f);
  EXPECT_EQ(request.sampling().top_k(), -1);
  EXPECT_TRUE(request.sampling().ignore_eos());
  EXPECT_FALSE(request.sampling().has_top_p());
  EXPECT_FALSE(calls[1].call.cancel.has_value());
}

TEST(PlanTest, EveryRequestHasASeedOfItsOwn) {
  std::set<int64_t> seeds;
  for (const PlannedCall& planned : PlanRun({}, Prompts(100), "a-")) {
    ASSERT_TRUE(planned.call.request.sampling().has_seed());
    seeds.insert(planned.call.request.sampling().seed());
  }
  EXPECT_EQ(seeds.size(), 100);
}

TEST(PlanTest, SequencesAndPrioritiesAreDrawnAndRepeated) {
  LoadgenOptions options;
  options.n = {1, 3};
  options.beam_width = {0, 2};
  options.priority = {0, 5};
  options.temperature = 0.5;
  std::set<std::pair<uint32_t, uint32_t>> kinds;
  std::set<int32_t> priorities;
  const auto calls = PlanRun(options, Prompts(100), "a-");
  for (const PlannedCall& planned : calls) {
    const v1::SamplingParams& sampling = planned.call.request.sampling();
    kinds.insert({sampling.n(), sampling.beam_width()});
    priorities.insert(planned.call.request.priority());
    // Beams are not sampled, and return no more than there are.
    EXPECT_EQ(sampling.has_temperature(), sampling.beam_width() == 0);
  }
  EXPECT_EQ(kinds, (std::set<std::pair<uint32_t, uint32_t>>{
                       {1, 0}, {3, 0}, {1, 2}, {2, 2}}));
  EXPECT_EQ(priorities, (std::set<int32_t>{0, 5}));
  std::vector<RequestRecord> run(100);
  for (int64_t idx = 0; idx < 100; ++idx) {
    run[idx].idx = idx;
    run[idx].outcome = RequestOutcome::kCompleted;
  }
  const auto again = PlanRepetition(options, Prompts(100), run, "a-");
  for (int64_t idx = 0; idx < 100; ++idx) {
    EXPECT_EQ(again[idx].call.request.SerializeAsString(),
              calls[idx].call.request.SerializeAsString());
  }
}

TEST(PlanTest, CancelsAboutTheFractionAskedForInBothWays) {
  LoadgenOptions options;
  options.cancel_fraction = 0.5;
  int64_t num_cancelled = 0, num_by_call = 0;
  for (const PlannedCall& planned : PlanRun(options, Prompts(1000), "a-")) {
    if (!planned.call.cancel) continue;
    ++num_cancelled;
    if (planned.call.cancel->by_call) ++num_by_call;
    EXPECT_GE(planned.call.cancel->after_tokens, 0);
    EXPECT_LE(planned.call.cancel->after_tokens, 9);
  }
  // Six standard deviations of a binomial: 6 * sqrt(1000 / 4) = 95.
  EXPECT_NEAR(num_cancelled, 500, 95);
  EXPECT_NEAR(num_by_call, 250, 95);
}

TEST(PlanTest, TheRepetitionIsWhatCompletedWithoutHurryOrCancellation) {
  LoadgenOptions options;
  options.cancel_fraction = 1;
  options.arrival.request_rate = 1;
  const auto prompts = Prompts(3);
  const auto first = PlanRun(options, prompts, "a-");
  std::vector<RequestRecord> run(3);
  for (int64_t idx = 0; idx < 3; ++idx) run[idx].idx = idx;
  run[0].outcome = RequestOutcome::kCompleted;
  run[1].outcome = RequestOutcome::kCancelled;
  run[2].outcome = RequestOutcome::kCompleted;
  const auto calls = PlanRepetition(options, prompts, run, "b-");
  ASSERT_EQ(calls.size(), 2);
  EXPECT_EQ(calls[1].call.idx, 2);
  EXPECT_EQ(calls[1].arrival, absl::ZeroDuration());
  EXPECT_FALSE(calls[1].call.cancel.has_value());
  EXPECT_EQ(calls[1].call.request.request_id(), "b-2");
  EXPECT_EQ(calls[1].call.request.sampling().seed(),
            first[2].call.request.sampling().seed());
}

}  // namespace
}  // namespace quire
