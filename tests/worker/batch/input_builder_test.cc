// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/input_builder.h"

#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

SlotLimits Limits() {
  SlotLimits limits;
  limits.max_num_seqs = 4;
  limits.max_model_len = 12;
  limits.block_size = 4;
  limits.num_blocks = 20;
  limits.vocab_size = 100;
  return limits;
}

AdmittedSlot Admit(int32_t slot, std::vector<TokenId> tokens,
                   std::vector<int32_t> blocks, int32_t num_computed) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  admitted.tokens = std::move(tokens);
  admitted.num_computed_tokens = num_computed;
  std::vector<BlockId> ids;
  for (int32_t block : blocks) ids.push_back(BlockId(block));
  admitted.cache = ids;
  return admitted;
}

class InputBuilderTest : public testing::Test {
 protected:
  InputBuilderTest()
      : slots_(Limits()),
        builder_(*InputBuilder::Create(&backend_, Limits(),
                                       /*max_num_batched_tokens=*/8)) {
    StepPlan plan;
    plan.admitted = {
        Admit(0, {10, 11, 12, 13, 14, 15}, {9, 2}, 5),  // decodes token 15
        Admit(2, {20, 21, 22, 23, 24, 25}, {7, 3}, 2),  // in mid-prompt
        Admit(3, {30, 31}, {5}, 0),                     // at its start
    };
    EXPECT_TRUE(slots_.Apply(plan).ok());
  }

  static std::vector<int32_t> List(const int32_t* data, int32_t n) {
    return {data, data + n};
  }

  FakeBackend backend_;
  SlotStates slots_;
  std::unique_ptr<InputBuilder> builder_;
};

TEST_F(InputBuilderTest, MixesDecodesAndChunks) {
  StepPlan plan;
  plan.decodes = {SlotId(0)};
  plan.chunks = {{SlotId(2), 3, false}, {SlotId(3), 2, true}};
  const auto built = builder_->Build(plan, &slots_);
  ASSERT_TRUE(built.ok()) << built.status();
  const BatchInput& in = *built;
  EXPECT_EQ(in.num_tokens, 6);
  EXPECT_EQ(in.num_seqs, 3);
  EXPECT_EQ(in.num_samples, 2);
  using List32 = std::vector<int32_t>;
  EXPECT_EQ(List(in.token_ids, 6), (List32{15, 22, 23, 24, 30, 31}));
  EXPECT_EQ(List(in.positions, 6), (List32{5, 2, 3, 4, 0, 1}));
  // Block 2 offset 1; block 7 offsets 2 and 3, block 3 offset 0; block 5.
  EXPECT_EQ(List(in.slot_mapping, 6), (List32{9, 30, 31, 12, 20, 21}));
  EXPECT_EQ(List(in.query_start, 4), (List32{0, 1, 4, 6}));
  EXPECT_EQ(List(in.context_lens, 3), (List32{6, 5, 2}));
  EXPECT_EQ(List(in.seq_slots, 3), (List32{0, 2, 3}));
  EXPECT_EQ(List(in.sample_rows, 2), (List32{0, 5}));
  EXPECT_EQ(builder_->sampled_slots(),
            (std::vector<SlotId>{SlotId(0), SlotId(3)}));
  EXPECT_EQ(in.max_blocks_per_seq, 3);
  EXPECT_EQ(in.block_tables[0], 9);
  EXPECT_EQ(in.block_tables[2 * 3 + 1], 3);
  EXPECT_EQ(in.block_tables[3 * 3], 5);
  // One chunk may be the prefix of the other.
  EXPECT_FALSE(in.are_contexts_apart);
  EXPECT_EQ(in.min_new_tokens, 1);
}

TEST_F(InputBuilderTest, PromptsAloneTellTheFewestTokensOfOne) {
  StepPlan plan;
  plan.chunks = {{SlotId(2), 4, true}, {SlotId(3), 2, true}};
  const auto built = builder_->Build(plan, &slots_);
  ASSERT_TRUE(built.ok()) << built.status();
  EXPECT_EQ(built->min_new_tokens, 2);
}

TEST_F(InputBuilderTest, ASteadyDecodeIsOneOperationAndAllocatesNothing) {
  StepPlan plan;
  plan.decodes = {SlotId(0)};
  ASSERT_TRUE(builder_->Build(plan, &slots_).ok());
  EXPECT_TRUE(slots_.changed_rows().empty());  // they were sent
  slots_.Commit(plan, {16});
  const int32_t fetches = backend_.num_fetches();
  const int64_t bytes = backend_.allocated_bytes();
  ASSERT_TRUE(slots_.Apply(plan).ok());
  const auto built = builder_->Build(plan, &slots_);
  ASSERT_TRUE(built.ok());
  EXPECT_EQ(built->token_ids[0], 16);
  EXPECT_TRUE(built->are_contexts_apart);
  EXPECT_EQ(built->min_new_tokens, 1);
  EXPECT_EQ(built->slot_mapping[0], 10);
  EXPECT_EQ(backend_.num_fetches(), fetches + 1);
  EXPECT_EQ(backend_.num_copies_to_device(), 0);
  EXPECT_EQ(backend_.allocated_bytes(), bytes);
}

TEST_F(InputBuilderTest, ChangedTableEntriesReachTheDevice) {
  StepPlan plan;
  plan.decodes = {SlotId(0)};
  ASSERT_TRUE(builder_->Build(plan, &slots_).ok());
  StepPlan next;
  next.replaced = {{SlotId(0), 1, BlockId(17)}};
  next.appended = {{SlotId(3), BlockId(18)}};
  next.decodes = {SlotId(0)};
  ASSERT_TRUE(slots_.Apply(next).ok());
  const auto built = builder_->Build(next, &slots_);
  ASSERT_TRUE(built.ok());
  EXPECT_EQ(built->slot_mapping[0], 17 * 4 + 1);
  EXPECT_EQ(built->block_tables[0], 9);
  EXPECT_EQ(built->block_tables[1], 17);
  EXPECT_EQ(built->block_tables[3 * 3 + 1], 18);
}

TEST_F(InputBuilderTest, TablesWithoutNumbersForTheirEntriesAreRefused) {
  SlotLimits limits = Limits();
  limits.max_num_seqs = 1 << 16;
  limits.max_model_len = limits.block_size << 15;
  const auto builder = InputBuilder::Create(&backend_, limits, 8);
  EXPECT_EQ(builder.status().code(), absl::StatusCode::kInvalidArgument)
      << builder.status();
}

TEST_F(InputBuilderTest, ATokenThatIsNotKnownIsTakenFromItsSlot) {
  StepPlan plan;
  plan.decodes = {SlotId(0)};
  ASSERT_TRUE(builder_->Build(plan, &slots_).ok());
  std::vector<UnknownToken> unknown;
  slots_.Advance(plan, &unknown);
  ASSERT_TRUE(slots_.Apply(plan).ok());
  const auto built = builder_->Build(plan, &slots_);
  ASSERT_TRUE(built.ok()) << built.status();
  EXPECT_EQ(built->token_ids[0], ~0);
  EXPECT_EQ(built->sampled, builder_->sampled_by_slot());
  EXPECT_EQ(built->choices[0].slot, 0);
  EXPECT_EQ(built->choices[0].position, 7);  // 6 tokens and the unknown one
}

TEST_F(InputBuilderTest, PaddingOwnsNoTokenAndLiesWhereItAlwaysDoes) {
  StepPlan plan;
  plan.decodes = {SlotId(0)};
  constexpr StepSize kSize = {3, 3, 1};
  const auto built = builder_->Build(plan, &slots_, kSize);
  ASSERT_TRUE(built.ok()) << built.status();
  const BatchInput in = *built;
  EXPECT_EQ(in.num_tokens, 3);
  EXPECT_EQ(in.num_seqs, 3);
  EXPECT_EQ(in.num_samples, 3);
  using List32 = std::vector<int32_t>;
  EXPECT_EQ(List(in.token_ids, 3), (List32{15, 0, 0}));
  EXPECT_EQ(List(in.slot_mapping, 3), (List32{9, -1, -1}));
  EXPECT_EQ(List(in.query_start, 4), (List32{0, 1, 1, 1}));
  EXPECT_EQ(List(in.context_lens, 3), (List32{6, 0, 0}));
  EXPECT_EQ(List(in.sample_rows, 3), (List32{0, 1, 2}));
  EXPECT_EQ(in.choices[0].slot, 0);
  EXPECT_EQ(in.choices[1].slot, -1);
  EXPECT_EQ(builder_->sampled_slots(), (std::vector<SlotId>{SlotId(0)}));
  const auto padding = builder_->BuildPadding(kSize);
  ASSERT_TRUE(padding.ok()) << padding.status();
  EXPECT_EQ(padding->token_ids, in.token_ids);
  EXPECT_EQ(padding->choices, in.choices);
  EXPECT_EQ(padding->context_lens, in.context_lens);
  EXPECT_EQ(padding->slot_mapping[0], -1);
  EXPECT_TRUE(padding->are_contexts_apart);
}

TEST_F(InputBuilderTest, PaddingOfAPromptBelongsToNobody) {
  StepPlan plan;
  plan.chunks = {{SlotId(2), 4, true}};
  constexpr StepSize kSize = {6, 1, 3};
  const auto built = builder_->Build(plan, &slots_, kSize);
  ASSERT_TRUE(built.ok()) << built.status();
  const BatchInput in = *built;
  EXPECT_EQ(in.num_tokens, 6);
  EXPECT_EQ(in.num_seqs, 1);
  EXPECT_EQ(in.num_samples, 1);
  EXPECT_EQ(in.min_new_tokens, 4);
  using List32 = std::vector<int32_t>;
  EXPECT_EQ(List(in.token_ids, 6), (List32{22, 23, 24, 25, 0, 0}));
  EXPECT_EQ(List(in.positions, 6), (List32{2, 3, 4, 5, 0, 0}));
  EXPECT_EQ(List(in.slot_mapping, 6), (List32{30, 31, 12, 13, -1, -1}));
  EXPECT_EQ(List(in.query_start, 2), (List32{0, 4}));
  EXPECT_EQ(List(in.context_lens, 1), (List32{6}));
  EXPECT_EQ(List(in.sample_rows, 1), (List32{3}));
  const auto padding = builder_->BuildPadding(kSize);
  ASSERT_TRUE(padding.ok()) << padding.status();
  EXPECT_EQ(padding->token_ids, in.token_ids);
  EXPECT_EQ(padding->sample_rows, in.sample_rows);
  EXPECT_EQ(padding->choices, in.choices);
  EXPECT_EQ(padding->block_tables, in.block_tables);
  EXPECT_EQ(padding->query_start[1], 0);
  EXPECT_EQ(padding->min_new_tokens, 3);
  EXPECT_FALSE(padding->are_contexts_apart);
}

TEST_F(InputBuilderTest, LongInputsAreFetchedInManyRuns) {
  SlotLimits limits = Limits();
  limits.block_size = 1;
  limits.max_model_len = 3000;
  limits.num_blocks = 3000;
  SlotStates slots(limits);
  StepPlan plan;
  std::vector<TokenId> tokens(2500);
  std::vector<int32_t> blocks(2500);
  for (int32_t i = 0; i < 2500; ++i) {
    tokens[i] = i % 90;
    blocks[i] = 2999 - i;
  }
  plan.admitted = {Admit(1, tokens, blocks, 0)};
  plan.chunks = {{SlotId(1), 2500, true}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  const auto builder = *InputBuilder::Create(&backend_, limits, 2500);
  const auto built = builder->Build(plan, &slots);
  ASSERT_TRUE(built.ok()) << built.status();
  EXPECT_EQ(List(built->token_ids, 2500),
            std::vector<int32_t>(tokens.begin(), tokens.end()));
  EXPECT_EQ(List(built->slot_mapping, 2500), blocks);
  EXPECT_EQ(List(built->block_tables + 3000, 2500), blocks);
  EXPECT_EQ(built->sample_rows[0], 2499);
}

TEST_F(InputBuilderTest, SlicesThatContradictTheirSlotsAreNamed) {
  struct {
    const char* message;
    std::function<void(StepPlan&)> make;
  } cases[] = {
      {"slot 1: holds no sequence",
       [](StepPlan& p) { p.decodes = {SlotId(1)}; }},
      {"slot 9: unknown, there are 4",
       [](StepPlan& p) {
         p.chunks = {{SlotId(9), 1, true}};
       }},
      {"slot 2: samples after 1 of 4 uncomputed tokens",
       [](StepPlan& p) { p.decodes = {SlotId(2)}; }},
      {"slot 0: a slice of 2 tokens, 1 are uncomputed",
       [](StepPlan& p) {
         p.chunks = {{SlotId(0), 2, true}};
       }},
      {"slot 2: samples after 3 of 4 uncomputed tokens",
       [](StepPlan& p) {
         p.chunks = {{SlotId(2), 3, true}};
       }},
      {"slot 0: named twice in a step",
       [](StepPlan& p) {
         p.decodes = {SlotId(0)};
         p.chunks = {{SlotId(0), 1, true}};
       }},
  };
  for (const auto& c : cases) {
    StepPlan plan;
    c.make(plan);
    const absl::Status status = builder_->Build(plan, &slots_).status();
    EXPECT_TRUE(absl::IsInternal(status));
    EXPECT_EQ(status.message(), c.message);
  }
}

TEST_F(InputBuilderTest, TokensAreSparseAfterThePromptAndTheFirstPages) {
  SlotLimits limits = Limits();
  limits.block_size = 1;
  limits.sparse_pages = 5;
  SlotStates slots(limits);
  StepPlan plan;
  plan.admitted = {
      Admit(0, std::vector<TokenId>(7, 1), {0, 1, 2, 3, 4, 5, 6}, 6),
      Admit(1, std::vector<TokenId>(7, 1), {0, 1, 2, 3, 4, 5, 6}, 4)};
  plan.admitted[0].num_prompt_tokens = 2;
  plan.admitted[1].num_prompt_tokens = 6;
  plan.decodes = {SlotId(0)};
  plan.chunks = {{SlotId(1), 3, true}};
  ASSERT_TRUE(slots.Apply(plan).ok());
  const auto builder = *InputBuilder::Create(&backend_, limits, 8);
  const auto built = builder->Build(plan, &slots);
  ASSERT_TRUE(built.ok()) << built.status();
  EXPECT_EQ(built->sparse.num_pages, 5);
  EXPECT_EQ(List(built->sparse.first_positions, 2),
            (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(List(built->sample_rows, 2), (std::vector<int32_t>{0, 3}));

  StepPlan dense;
  dense.decodes = {SlotId(0)};
  EXPECT_EQ(builder_->Build(dense, &slots_)->sparse.first_positions, nullptr);
}

TEST_F(InputBuilderTest, TokensBeyondBlocksWindowOrBudgetAreRefused) {
  StepPlan small;
  small.admitted = {Admit(1, {1, 2, 3, 4, 5}, {6}, 0)};
  small.chunks = {{SlotId(1), 5, true}};
  ASSERT_TRUE(slots_.Apply(small).ok());
  EXPECT_EQ(builder_->Build(small, &slots_).status().message(),
            "slot 1: computes token 5, its 1 blocks hold 4");

  StepPlan late;
  late.released = {SlotId(1)};
  late.admitted = {Admit(1, std::vector<TokenId>(13, 1), {6, 8, 10}, 12)};
  late.decodes = {SlotId(1)};
  ASSERT_TRUE(slots_.Apply(late).ok());
  EXPECT_EQ(builder_->Build(late, &slots_).status().message(),
            "slot 1: computes token 13, the window is 12");

  StepPlan large;
  large.released = {SlotId(1)};
  large.admitted = {Admit(1, std::vector<TokenId>(9, 1), {6, 8, 10}, 0)};
  large.chunks = {{SlotId(1), 9, true}};
  ASSERT_TRUE(slots_.Apply(large).ok());
  EXPECT_EQ(builder_->Build(large, &slots_).status().message(),
            "a step of 9 tokens, the most is 8");
}

}  // namespace
}  // namespace quire
