// SPDX-License-Identifier: Apache-2.0
#include "coordinator/recording/plan_digest.h"

#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

StepPlan Plan() {
  StepPlan plan;
  plan.identity = {Epoch(1), Epoch(2), StepId(3)};
  AdmittedSlot admitted;
  admitted.slot = SlotId(1);
  admitted.tokens = {1, 2, 3};
  admitted.cache = std::vector<BlockId>{BlockId(4)};
  plan.admitted = {admitted};
  plan.appended = {{SlotId(2), BlockId(5)}};
  plan.decodes = {SlotId(2)};
  plan.chunks = {{SlotId(1), 3, true}};
  return plan;
}

TEST(PlanDigestTest, EqualPlansAreEqual) {
  EXPECT_EQ(PlanDigest(Plan()), PlanDigest(Plan()));
}

TEST(PlanDigestTest, EveryPartCounts) {
  std::vector<StepPlan> plans(23, Plan());
  plans[1].identity.step_id = StepId(4);
  plans[2].resync = true;
  plans[3].released = {SlotId(9)};
  plans[4].forks = {{SlotId(1), SlotId(3), SequenceId(7), 8, 2}};
  plans[5].next_tokens = {{SlotId(2), 6}};
  plans[6].admitted[0].tokens[1] = 9;
  plans[7].admitted[0].sampling.temperature = 0.5;
  plans[8].admitted[0].cache = CacheRowId(4);
  plans[9].replaced = {{SlotId(2), 0, BlockId(6)}};
  plans[10].appended.clear();
  plans[11].swap_outs = {{BlockId(1), HostBlockId(1)}};
  plans[12].swap_ins = {{BlockId(1), HostBlockId(1)}};
  plans[13].copies = {{BlockId(1), BlockId(2)}};
  plans[14].decodes = {SlotId(1)};
  plans[15].chunks[0].sample = false;
  plans[16].mappings = {{CacheRowId(1), 2}};
  plans[17].masks = {{SlotId(1), {1}}};
  plans[18].admitted[0].sampling.logit_bias = {{4, 1}};
  plans[19].admitted[0].sampling.bad_words = {{4}};
  plans[20].admitted[0].sampling.allowed_token_ids = {4};
  plans[21].admitted[0].sampling.needs_mask = true;
  plans[22].admitted[0].sampling.num_prompt_logprobs = 0;
  std::set<uint64_t> digests;
  for (const StepPlan& plan : plans) digests.insert(PlanDigest(plan));
  EXPECT_EQ(digests.size(), plans.size());
}

TEST(PlanDigestTest, SizesFollowTheOrderOfTheParts) {
  const auto sizes = PlanPartSizes(Plan());
  EXPECT_EQ(sizes, (std::array<uint32_t, kNumPlanParts>{0, 0, 0, 1, 0, 1, 0, 0,
                                                        0, 0, 0, 1, 1}));
}

}  // namespace
}  // namespace quire
