// SPDX-License-Identifier: Apache-2.0
//
// A fake that lets a broken plan pass proves nothing: each rule is broken once.
#include "tests/fakes/simulated_worker_group.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

AdmittedSlot Admitted(int32_t slot, int32_t num_tokens,
                      std::vector<BlockId> blocks) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.sequence_id = SequenceId(slot + 1);
  for (int32_t i = 0; i < num_tokens; ++i) admitted.tokens.push_back(i);
  admitted.num_prompt_tokens = num_tokens;
  admitted.cache = std::move(blocks);
  return admitted;
}

class SimulatedWorkerGroupTest : public testing::Test {
 protected:
  SimulatedWorkerGroupTest()
      : workers_(
            {.num_blocks = 8, .block_size = kBlockSize, .max_num_seqs = 4}) {
    workers_.Begin(1);
  }

  StepPlan NextPlan() {
    StepPlan plan;
    plan.identity = {Epoch(1), Epoch(1), StepId(++last_step_)};
    return plan;
  }

  // A slot of 6 prompt tokens in blocks 0 and 1, prefilled, so with 7 tokens.
  void Prefill(int32_t slot = 0, int32_t first_block = 0) {
    StepPlan plan = NextPlan();
    plan.admitted.push_back(
        Admitted(slot, 6, {BlockId(first_block), BlockId(first_block + 1)}));
    plan.chunks.push_back({SlotId(slot), 6, true});
    workers_.Send(plan);
    EXPECT_TRUE(workers_.status().ok()) << workers_.status();
  }

  std::string Complaint(const StepPlan& plan) {
    workers_.Send(plan);
    return std::string(workers_.status().message());
  }

  SimulatedWorkerGroup workers_;
  uint64_t last_step_ = 0;
};

TEST_F(SimulatedWorkerGroupTest, GeneratesTheStreamOfTheRequest) {
  Prefill();
  std::vector<TokenId> heard = workers_.TakeResult()->tokens;
  for (int i = 0; i < 5; ++i) {
    StepPlan plan = NextPlan();
    if (i == 2) plan.appended.push_back({SlotId(0), BlockId(5)});
    plan.decodes = {SlotId(0)};
    workers_.Send(plan);
    heard.push_back(workers_.TakeResult()->tokens[0]);
  }
  EXPECT_TRUE(workers_.status().ok()) << workers_.status();
  SamplingParams sampling;
  sampling.max_tokens = 6;
  EXPECT_EQ(heard, SimulatedStream({0, 1, 2, 3, 4, 5}, sampling));
}

TEST_F(SimulatedWorkerGroupTest, StreamsDifferBySeedAndPrompt) {
  SamplingParams one, two;
  two.slot.seed = 1;
  EXPECT_NE(SimulatedStream({1, 2}, one), SimulatedStream({1, 2}, two));
  EXPECT_NE(SimulatedStream({1, 2}, one), SimulatedStream({2, 1}, one));
}

TEST_F(SimulatedWorkerGroupTest, AForkThatCopiesItsLastBlockGoesOnAlone) {
  Prefill();
  StepPlan plan = NextPlan();
  plan.forks.push_back({.parent = SlotId(0),
                        .child = SlotId(1),
                        .child_sequence_id = SequenceId(9),
                        .child_seed = 0,
                        .num_tokens = 7});
  plan.replaced.push_back({SlotId(1), 1, BlockId(2)});
  plan.copies.push_back({BlockId(1), BlockId(2)});
  plan.decodes = {SlotId(0), SlotId(1)};
  workers_.TakeResult();
  workers_.Send(plan);
  EXPECT_TRUE(workers_.status().ok()) << workers_.status();
  const std::vector<TokenId> tokens = workers_.TakeResult()->tokens;
  ASSERT_EQ(tokens.size(), 2);
  EXPECT_EQ(tokens[0], tokens[1]);  // same prefix, same seed
}

TEST_F(SimulatedWorkerGroupTest, AForkThatWritesASharedBlockIsCaught) {
  Prefill();
  StepPlan plan = NextPlan();
  plan.forks.push_back({.parent = SlotId(0),
                        .child = SlotId(1),
                        .child_sequence_id = SequenceId(9),
                        .child_seed = 0,
                        .num_tokens = 7});
  plan.decodes = {SlotId(1)};
  EXPECT_EQ(Complaint(plan), "step 2: slot 1 writes a shared block");
}

TEST_F(SimulatedWorkerGroupTest, ACopyThatIsForgottenIsCaught) {
  Prefill();
  StepPlan plan = NextPlan();
  plan.forks.push_back({.parent = SlotId(0),
                        .child = SlotId(1),
                        .child_sequence_id = SequenceId(9),
                        .child_seed = 0,
                        .num_tokens = 7});
  plan.replaced.push_back({SlotId(1), 1, BlockId(2)});
  plan.decodes = {SlotId(1)};
  EXPECT_EQ(Complaint(plan),
            "step 2: slot 1 reads position 4, which holds something else");
}

TEST_F(SimulatedWorkerGroupTest, ABeamGoesOnWithTheTokenItIsGiven) {
  StepPlan prefill = NextPlan();
  prefill.admitted.push_back(Admitted(0, 6, {BlockId(0), BlockId(1)}));
  prefill.admitted[0].sampling.num_logprobs = 5;
  prefill.chunks.push_back({SlotId(0), 6, true});
  workers_.Send(prefill);
  const std::vector<TopLogprob> top = workers_.TakeResult()->logprobs[0].top;
  EXPECT_EQ(top, SimulatedTop({0, 1, 2, 3, 4, 5}, 5));
  StepPlan plan = NextPlan();
  plan.forks.push_back({.parent = SlotId(0),
                        .child = SlotId(1),
                        .child_sequence_id = SequenceId(9),
                        .child_seed = 0,
                        .num_tokens = 7});
  plan.next_tokens = {{SlotId(0), top[1].token_id},
                      {SlotId(1), top[0].token_id}};
  plan.replaced.push_back({SlotId(1), 1, BlockId(2)});
  plan.copies.push_back({BlockId(1), BlockId(2)});
  plan.decodes = {SlotId(0), SlotId(1)};
  workers_.Send(plan);
  EXPECT_TRUE(workers_.status().ok()) << workers_.status();
  const StepResult result = *workers_.TakeResult();
  EXPECT_EQ(result.logprobs[0].top,
            SimulatedTop({0, 1, 2, 3, 4, 5, top[1].token_id}, 5));
  EXPECT_EQ(result.logprobs[1].top,
            SimulatedTop({0, 1, 2, 3, 4, 5, top[0].token_id}, 5));
}

TEST_F(SimulatedWorkerGroupTest, APromptTokenThatIsChangedIsCaught) {
  StepPlan plan = NextPlan();
  plan.admitted.push_back(Admitted(0, 4, {BlockId(0)}));
  plan.chunks.push_back({SlotId(0), 3, false});
  workers_.Send(plan);
  plan = NextPlan();
  plan.next_tokens = {{SlotId(0), 1}};
  EXPECT_EQ(Complaint(plan),
            "step 2: slot 0 has no last token of its own to change");
}

TEST_F(SimulatedWorkerGroupTest, AStepOutOfOrderIsCaught) {
  StepPlan plan = NextPlan();
  plan.identity.step_id = StepId(2);
  EXPECT_EQ(Complaint(plan), "step 0: step 2 after step 0");
}

TEST_F(SimulatedWorkerGroupTest, ABlockGivenTwiceIsCaught) {
  Prefill();
  StepPlan plan = NextPlan();
  plan.admitted.push_back(Admitted(1, 4, {BlockId(1)}));
  EXPECT_EQ(Complaint(plan), "step 2: block 1 is given to a second slot");
}

TEST_F(SimulatedWorkerGroupTest, ASlotTakenTwiceIsCaught) {
  Prefill();
  StepPlan plan = NextPlan();
  plan.admitted.push_back(Admitted(0, 4, {BlockId(3)}));
  EXPECT_EQ(Complaint(plan), "step 2: slot 0 is not free");
}

TEST_F(SimulatedWorkerGroupTest, AReleaseOfAFreeSlotIsCaught) {
  StepPlan plan = NextPlan();
  plan.released = {SlotId(2)};
  EXPECT_EQ(Complaint(plan), "step 1: slot 2 is not live");
}

TEST_F(SimulatedWorkerGroupTest, ATokenWithoutABlockIsCaught) {
  StepPlan plan = NextPlan();
  plan.admitted.push_back(Admitted(0, 6, {BlockId(0)}));
  plan.chunks.push_back({SlotId(0), 6, true});
  EXPECT_EQ(Complaint(plan), "step 1: position 4 has no block");
}

TEST_F(SimulatedWorkerGroupTest, ASliceThatSamplesTooEarlyIsCaught) {
  StepPlan plan = NextPlan();
  plan.admitted.push_back(Admitted(0, 6, {BlockId(0), BlockId(1)}));
  plan.chunks.push_back({SlotId(0), 5, true});
  EXPECT_EQ(Complaint(plan), "step 1: slot 0 with 6 tokens left runs 5");
}

TEST_F(SimulatedWorkerGroupTest, ASlotThatRunsTwiceIsCaught) {
  Prefill();
  StepPlan plan = NextPlan();
  plan.decodes = {SlotId(0), SlotId(0)};
  EXPECT_EQ(Complaint(plan), "step 2: a slot runs twice in a step");
}

TEST_F(SimulatedWorkerGroupTest, APlanOfAnotherEpochIsDropped) {
  StepPlan plan = NextPlan();
  plan.identity.group_epoch = Epoch(2);
  workers_.Send(plan);
  EXPECT_FALSE(workers_.TakeResult().has_value());
  EXPECT_TRUE(workers_.status().ok());
}

}  // namespace
}  // namespace quire
