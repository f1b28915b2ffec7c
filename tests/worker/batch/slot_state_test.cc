// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/slot_state.h"

#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// 4 slots of at most 12 tokens in blocks of 4, 20 blocks, 5 host blocks.
SlotLimits Limits() {
  SlotLimits limits;
  limits.max_num_seqs = 4;
  limits.max_model_len = 12;
  limits.block_size = 4;
  limits.num_blocks = 20;
  limits.num_host_blocks = 5;
  limits.vocab_size = 100;
  return limits;
}

AdmittedSlot Admit(int32_t slot, std::vector<TokenId> tokens,
                   std::vector<int32_t> blocks, int32_t num_computed = 0) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.sequence_id = SequenceId(1000 + slot);
  admitted.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  admitted.tokens = std::move(tokens);
  admitted.num_computed_tokens = num_computed;
  std::vector<BlockId> ids;
  for (int32_t block : blocks) ids.push_back(BlockId(block));
  admitted.cache = ids;
  return admitted;
}

std::vector<int32_t> Table(const SlotStates& slots, int32_t slot) {
  const auto table = slots.block_table(SlotId(slot));
  return {table.begin(), table.end()};
}

uint64_t DigestOf(
    const std::vector<std::pair<int32_t, std::vector<int32_t>>>& tables) {
  TableDigest digest;
  for (const auto& [slot, blocks] : tables) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      digest.Toggle(SlotId(slot), i, blocks[i]);
    }
  }
  return digest.value();
}

TEST(SlotStatesTest, DeltasAddUpToTheTablesAndTheirDigest) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2, 3, 4, 5}, {7, 8}), Admit(3, {9}, {2})};
  plan.appended = {{SlotId(3), BlockId(19)}, {SlotId(0), BlockId(0)}};
  plan.replaced = {{SlotId(0), 1, BlockId(11)}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  EXPECT_EQ(Table(slots, 0), (std::vector<int32_t>{7, 11, 0}));
  EXPECT_EQ(Table(slots, 3), (std::vector<int32_t>{2, 19}));
  EXPECT_EQ(slots.table_digest(), DigestOf({{0, {7, 11, 0}}, {3, {2, 19}}}));

  StepPlan release;
  release.released = {SlotId(0)};
  release.admitted = {Admit(0, {6}, {7})};  // the block is free at once
  ASSERT_TRUE(slots.Apply(release).ok());
  EXPECT_EQ(slots.table_digest(), DigestOf({{0, {7}}, {3, {2, 19}}}));

  StepPlan resync;
  resync.resync = true;
  resync.admitted = {Admit(1, {6, 7}, {5}, /*num_computed=*/1)};
  ASSERT_TRUE(slots.Apply(resync).ok());
  EXPECT_EQ(slots.table_digest(), DigestOf({{1, {5}}}));
  EXPECT_FALSE(slots.CheckAlive(SlotId(0)).ok());
  EXPECT_EQ(slots.slot(SlotId(1)).num_uncomputed(), 1);
}

TEST(SlotStatesTest, ACacheRowIsATableOfOne) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(2, {1}, {})};
  plan.admitted[0].cache = CacheRowId(17);
  ASSERT_TRUE(slots.Apply(plan).ok());
  EXPECT_EQ(Table(slots, 2), std::vector<int32_t>{17});
  EXPECT_EQ(slots.table_digest(), DigestOf({{2, {17}}}));
}

TEST(SlotStatesTest, CommitAppendsSampledTokensInPlanOrder) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2, 3}, {1}, 2), Admit(1, {4, 5, 6}, {2}),
                   Admit(2, {7, 8, 9}, {3})};
  plan.admitted[2].sampling.presence_penalty = 1;
  plan.decodes = {SlotId(0)};
  plan.chunks = {{SlotId(1), 2, false}, {SlotId(2), 3, true}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  slots.Commit(plan, {50, 60});
  EXPECT_EQ(slots.slot(SlotId(0)).tokens, (std::vector<TokenId>{1, 2, 3, 50}));
  EXPECT_EQ(slots.slot(SlotId(0)).num_computed, 3);
  EXPECT_EQ(slots.slot(SlotId(1)).num_tokens(), 3);
  EXPECT_EQ(slots.slot(SlotId(1)).num_uncomputed(), 1);
  EXPECT_EQ(slots.slot(SlotId(2)).tokens.back(), 60);
  EXPECT_TRUE(slots.slot(SlotId(0)).counts.seen().empty());
  ASSERT_EQ(slots.slot(SlotId(2)).counts.seen().size(), 4);
  EXPECT_EQ(slots.slot(SlotId(2)).counts.seen()[3].output_count, 1);
}

TEST(SlotStatesTest, TokensOfAnEnqueuedStepAreFilledInLater) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2, 3}, {1}, 2), Admit(1, {4, 5}, {2})};
  plan.decodes = {SlotId(0)};
  plan.chunks = {{SlotId(1), 2, true}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  std::vector<UnknownToken> unknown;
  slots.Advance(plan, &unknown);
  EXPECT_EQ(slots.slot(SlotId(0)).tokens.back(), kUnknownToken);
  EXPECT_EQ(slots.slot(SlotId(0)).num_computed, 3);
  // Slot 1 goes to another sequence before the tokens are known.
  StepPlan next;
  next.released = {SlotId(1)};
  next.admitted = {Admit(1, {7, 8, 9}, {3})};
  ASSERT_TRUE(slots.Apply(next).ok());
  slots.Fill(unknown, {50, 60});
  EXPECT_EQ(slots.slot(SlotId(0)).tokens, (std::vector<TokenId>{1, 2, 3, 50}));
  EXPECT_EQ(slots.slot(SlotId(1)).tokens, (std::vector<TokenId>{7, 8, 9}));
}

TEST(SlotStatesTest, AForkSharesTheBlocksOfItsComputedTokens) {
  SlotStates slots(Limits());
  StepPlan plan;
  // Ten tokens, nine computed: blocks of 4, 4 and 1.
  plan.admitted = {Admit(0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {5, 6, 7}, 9)};
  plan.admitted[0].num_prompt_tokens = 6;
  plan.admitted[0].sampling.seed = 1;
  plan.admitted[0].sampling.frequency_penalty = 0.5f;
  ASSERT_TRUE(slots.Apply(plan).ok());

  StepPlan fork;
  fork.forks = {{SlotId(0), SlotId(1), SequenceId(2), /*child_seed=*/99, 10},
                {SlotId(0), SlotId(2), SequenceId(3), /*child_seed=*/98, 6}};
  fork.replaced = {{SlotId(1), 2, BlockId(12)}};  // copy-on-write
  fork.copies = {{BlockId(7), BlockId(12)}};
  ASSERT_TRUE(slots.Apply(fork).ok());
  EXPECT_EQ(Table(slots, 1), (std::vector<int32_t>{5, 6, 12}));
  EXPECT_EQ(Table(slots, 2), (std::vector<int32_t>{5, 6}));
  const Slot& whole = slots.slot(SlotId(1));
  EXPECT_EQ(whole.num_computed, 9);
  EXPECT_EQ(whole.sampling.seed, 99);
  EXPECT_EQ(whole.counts.seen().size(), 10);
  const Slot& prompt = slots.slot(SlotId(2));
  EXPECT_EQ(prompt.tokens, (std::vector<TokenId>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(prompt.num_computed, 5);  // one is left, to sample from
  EXPECT_EQ(prompt.num_prompt, 6);
  EXPECT_EQ(slots.table_digest(),
            DigestOf({{0, {5, 6, 7}}, {1, {5, 6, 12}}, {2, {5, 6}}}));
}

TEST(SlotStatesTest, ABeamGoesOnWithAnotherTokenThanWasSampled) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2, 3}, {1})};
  plan.admitted[0].sampling.repetition_penalty = 1.5f;
  plan.chunks = {{SlotId(0), 3, true}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  slots.Commit(plan, {50});

  // The child takes its parent's tokens as sampled, then its own last one.
  StepPlan beams;
  beams.forks = {{SlotId(0), SlotId(1), SequenceId(7), /*child_seed=*/0, 4}};
  beams.next_tokens = {{SlotId(0), 2}, {SlotId(1), 60}};
  const uint64_t table = DigestOf({{0, {1}}, {1, {1}}});
  ASSERT_TRUE(slots.Apply(beams).ok());
  EXPECT_EQ(slots.table_digest(), table);
  const Slot& parent = slots.slot(SlotId(0));
  const Slot& child = slots.slot(SlotId(1));
  EXPECT_EQ(parent.tokens, (std::vector<TokenId>{1, 2, 3, 2}));
  EXPECT_EQ(child.tokens, (std::vector<TokenId>{1, 2, 3, 60}));
  EXPECT_EQ(parent.num_computed, 3);
  EXPECT_EQ(child.num_computed, 3);
  // Nobody has seen 50; the parent's prompt token is an output token as well.
  ASSERT_EQ(parent.counts.seen().size(), 3);
  EXPECT_EQ(parent.counts.seen()[1].token_id, 2);
  EXPECT_EQ(parent.counts.seen()[1].output_count, 1);
  ASSERT_EQ(child.counts.seen().size(), 4);
  EXPECT_EQ(child.counts.seen()[3].token_id, 60);
  EXPECT_EQ(child.counts.seen()[3].output_count, 1);
}

TEST(SlotStatesTest, AComputedTokenCannotBeChanged) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2, 3}, {1})};
  plan.admitted[0].num_prompt_tokens = 2;
  plan.chunks = {{SlotId(0), 3, false}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  slots.Commit(plan, {});
  StepPlan beams;
  beams.next_tokens = {{SlotId(0), 4}};
  const absl::Status status = slots.Apply(beams);
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_EQ(status.message(),
            "slot 0: its last token is not its own to change: 3 computed, 2 of "
            "the prompt, of 3");
}

TEST(SlotStatesTest, ChangedRowsCoverExactlyWhatChanged) {
  SlotStates slots(Limits());
  StepPlan plan;
  plan.admitted = {Admit(0, {1}, {1, 2, 3}), Admit(1, {1}, {4, 5, 6})};
  ASSERT_TRUE(slots.Apply(plan).ok());
  slots.ClearChanges();
  StepPlan change;
  change.replaced = {{SlotId(1), 1, BlockId(9)}};
  ASSERT_TRUE(slots.Apply(change).ok());
  ASSERT_EQ(slots.changed_rows().size(), 1);
  EXPECT_EQ(slots.changed_rows()[0].slot, 1);
  EXPECT_EQ(slots.changed_rows()[0].begin, 1);
  EXPECT_EQ(slots.changed_rows()[0].end, 2);
}

TEST(SlotStatesTest, EveryContradictionIsInternalAndSaysWhat) {
  struct {
    const char* message;
    std::function<void(StepPlan&)> spoil;
  } cases[] = {
      {"slot 4: unknown, there are 4",
       [](StepPlan& p) { p.released = {SlotId(4)}; }},
      {"slot 2: holds no sequence",
       [](StepPlan& p) { p.released = {SlotId(2)}; }},
      {"slot 0: already holds sequence 1000",
       [](StepPlan& p) { p.admitted = {Admit(0, {1}, {1})}; }},
      {"slot 1: token id 100, the vocabulary has 100",
       [](StepPlan& p) { p.admitted = {Admit(1, {100}, {1})}; }},
      {"slot 1: 14 tokens, the window is 12",
       [](StepPlan& p) {
         p.admitted = {Admit(1, std::vector<TokenId>(14, 1), {1})};
       }},
      {"slot 1: 1 computed of 1 tokens",
       [](StepPlan& p) { p.admitted = {Admit(1, {3}, {1}, 1)}; }},
      {"slot 1: block 20 is not one of 20",
       [](StepPlan& p) { p.admitted = {Admit(1, {3}, {20})}; }},
      {"slot 0: block -1 is not one of 20",
       [](StepPlan& p) {
         p.appended = {{SlotId(0), BlockId(-1)}};
       }},
      {"slot 0: its table is full with 3 blocks",
       [](StepPlan& p) {
         p.appended = {{SlotId(0), BlockId(1)}, {SlotId(0), BlockId(2)}};
       }},
      {"slot 2: holds no sequence",
       [](StepPlan& p) {
         p.appended = {{SlotId(2), BlockId(1)}};
       }},
      {"slot 0: replaces block 2 of 2",
       [](StepPlan& p) {
         p.replaced = {{SlotId(0), 2, BlockId(1)}};
       }},
      {"slot 2: holds no sequence",
       [](StepPlan& p) {
         p.forks = {{SlotId(2), SlotId(1), SequenceId(5), 0, 1}};
       }},
      {"slot 0: already holds sequence 1000",
       [](StepPlan& p) {
         p.forks = {{SlotId(0), SlotId(0), SequenceId(5), 0, 1}};
       }},
      {"slot 0: fork of 6 tokens, it has 5",
       [](StepPlan& p) {
         p.forks = {{SlotId(0), SlotId(1), SequenceId(5), 0, 6}};
       }},
      {"slot 2: holds no sequence",
       [](StepPlan& p) {
         p.next_tokens = {{SlotId(2), 1}};
       }},
      {"slot 0: token id 100, the vocabulary has 100",
       [](StepPlan& p) {
         p.next_tokens = {{SlotId(0), 100}};
       }},
      {"slot 0: its last token is not its own to change: 0 computed, 5 of the "
       "prompt, of 5",
       [](StepPlan& p) {
         p.next_tokens = {{SlotId(0), 1}};
       }},
      {"copy of block 3 to 20: the pool has 20",
       [](StepPlan& p) {
         p.copies = {{BlockId(3), BlockId(20)}};
       }},
      {"swap of device block 1 and host block 5: the pools have 20 and 5",
       [](StepPlan& p) {
         p.swap_outs = {{BlockId(1), HostBlockId(5)}};
       }},
      {"swap of device block 21 and host block 1: the pools have 20 and 5",
       [](StepPlan& p) {
         p.swap_ins = {{BlockId(21), HostBlockId(1)}};
       }},
  };
  for (const auto& c : cases) {
    SlotStates slots(Limits());
    StepPlan good;
    good.admitted = {Admit(0, {1, 2, 3, 4, 5}, {3, 4})};
    ASSERT_TRUE(slots.Apply(good).ok());
    StepPlan bad;
    c.spoil(bad);
    const absl::Status status = slots.Apply(bad);
    EXPECT_TRUE(absl::IsInternal(status));
    EXPECT_EQ(status.message(), c.message);
  }
}

}  // namespace
}  // namespace quire
