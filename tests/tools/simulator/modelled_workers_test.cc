// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/modelled_workers.h"

#include <vector>

#include "common/sampling_params.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

// Slot 0 computes a prompt of 6 tokens, held by blocks 0 and 1.
StepPlan PromptPlan() {
  StepPlan plan;
  AdmittedSlot admitted;
  admitted.slot = SlotId(0);
  admitted.tokens = {1, 2, 3, 4, 5, 6};
  admitted.num_prompt_tokens = 6;
  admitted.cache = std::vector<BlockId>{BlockId(0), BlockId(1)};
  plan.admitted.push_back(admitted);
  plan.chunks.push_back({.slot = SlotId(0), .num_tokens = 6, .sample = true});
  return plan;
}

// Slot 1 forks from it.
StepPlan ForkPlan() {
  StepPlan plan;
  plan.forks.push_back({.parent = SlotId(0),
                        .child = SlotId(1),
                        .child_sequence_id = {},
                        .child_seed = SequenceSeed(0, 1),
                        .num_tokens = 6});
  plan.decodes = {SlotId(0), SlotId(1)};
  return plan;
}

class ModelledWorkersTest : public testing::Test {
 protected:
  const std::vector<SimulatedRequest> requests_ = {
      {.prompt_len = 6, .output_len = 10, .num_sequences = 2}};
  ModelledWorkers workers_{&requests_, /*max_num_seqs=*/4, kBlockSize, {}};
  StepResult result_;
  StepWork work_;
};

TEST_F(ModelledWorkersTest, CountsWhatAStepDoes) {
  workers_.Run(PromptPlan(), &result_, &work_);
  EXPECT_EQ(work_.num_sequences, 1);
  EXPECT_EQ(work_.num_tokens, 6);
  EXPECT_DOUBLE_EQ(work_.num_attention_pairs, 6 * 7 / 2.);
  EXPECT_EQ(result_.tokens.size(), 1);
  EXPECT_EQ(workers_.totals().num_computed_tokens, 6);
  EXPECT_EQ(workers_.totals().num_blocks, 2);
  // Of 15 that are computed at the end, two more fit into what it has.
  EXPECT_EQ(workers_.totals().num_future_tokens, 2);
}

TEST_F(ModelledWorkersTest, SiblingsCountEachTheirBlocksAndGenerateTheirOwn) {
  workers_.Run(PromptPlan(), &result_, &work_);
  result_ = StepResult();
  workers_.Run(ForkPlan(), &result_, &work_);
  ASSERT_EQ(result_.tokens.size(), 2);
  EXPECT_NE(result_.tokens[0], result_.tokens[1]);
  EXPECT_EQ(workers_.totals().num_blocks, 4);
}

TEST_F(ModelledWorkersTest, ReleasedSlotsCountForNothing) {
  workers_.Run(PromptPlan(), &result_, &work_);
  StepPlan plan;
  plan.released = {SlotId(0)};
  workers_.Run(plan, &result_, &work_);
  EXPECT_EQ(workers_.totals().num_computed_tokens, 0);
  EXPECT_EQ(workers_.totals().num_blocks, 0);
  EXPECT_EQ(work_.num_tokens, 0);
}

}  // namespace
}  // namespace quire
