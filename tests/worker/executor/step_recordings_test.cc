// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/step_recordings.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

TEST(RecordedSizesTest, PadByAnEighthOrSevenRowsAtMost) {
  for (int32_t max : {1, 2, 3, 7, 8, 9, 100, 256, 500, 512, 1024}) {
    const std::vector<int32_t> sizes = RecordedSizes(max);
    EXPECT_EQ(sizes.front(), 1);
    EXPECT_EQ(sizes.back(), max);
    for (size_t i = 1; i < sizes.size(); ++i) {
      const int32_t worst = sizes[i - 1] + 1;  // is padded to sizes[i]
      EXPECT_GT(sizes[i], sizes[i - 1]);
      EXPECT_LE(sizes[i] - worst, std::max(7, worst / 8)) << sizes[i];
    }
  }
  EXPECT_LE(RecordedSizes(512).size(), 40);
}

SlotLimits Limits() {
  SlotLimits limits;
  limits.max_num_seqs = 12;
  limits.max_model_len = 64;
  limits.block_size = 4;
  limits.num_blocks = 8;
  limits.vocab_size = 100;
  return limits;
}

TEST(RecordedPromptsTest, AreShortAndFitAStep) {
  EXPECT_EQ(RecordedPrompts(2048),
            (std::vector<int32_t>{16, 32, 48, 64, 80, 96, 112, 128}));
  EXPECT_EQ(RecordedPrompts(40), (std::vector<int32_t>{16, 32}));
  EXPECT_TRUE(RecordedPrompts(15).empty());
}

StepPlan Decodes(int32_t num_seqs) {
  StepPlan plan;
  for (int32_t slot = 0; slot < num_seqs; ++slot) {
    plan.decodes.push_back(SlotId(slot));
  }
  return plan;
}

StepPlan Prompt(int32_t num_tokens, bool sample) {
  StepPlan plan;
  plan.chunks = {{SlotId(0), num_tokens, sample}};
  return plan;
}

class StepRecordingsTest : public testing::Test {
 protected:
  StepRecordingsTest()
      : builder_(*InputBuilder::Create(&backend_, Limits(), 40)),
        recordings_(*StepRecordings::Create(
            &backend_, builder_.get(), 12, 40,
            [this](const BatchInput& batch) -> absl::StatusOr<const float*> {
              ran_.push_back(
                  {batch.num_tokens, batch.num_seqs, batch.min_new_tokens});
              return &logits_;
            })) {}

  using Sizes = std::vector<std::vector<int32_t>>;

  FakeBackend backend_;
  Sizes ran_;  // tokens, sequences, fewest new tokens
  float logits_ = 0;
  const std::unique_ptr<InputBuilder> builder_;
  const std::unique_ptr<StepRecordings> recordings_;
};

TEST(StepRecordingsMemoryTest, ALackOfMemoryIsToldWithTheRemedy) {
  FakeBackend backend;
  const auto builder = *InputBuilder::Create(&backend, Limits(), 40);
  float logits = 0;
  int num_runs = 0;
  const absl::Status status =
      StepRecordings::Create(
          &backend, builder.get(), 12, 40,
          [&](const BatchInput&) -> absl::StatusOr<const float*> {
            // Each size runs once and is recorded then.
            if (++num_runs < 4) return &logits;
            return absl::ResourceExhaustedError(
                "making a graph: out of memory");
          })
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("making a graph: out of"),
                             testing::HasSubstr("lower --memory_utilization")));
}

TEST_F(StepRecordingsTest, EachSizeRunsOnce) {
  // The largest decodes first.
  EXPECT_EQ(ran_, (Sizes{{12, 12, 1},
                         {8, 8, 1},
                         {4, 4, 1},
                         {2, 2, 1},
                         {1, 1, 1},
                         {16, 1, 9},
                         {32, 1, 17}}));
  EXPECT_EQ(StepRecordings::CountFor(12, 40), ran_.size());
}

TEST_F(StepRecordingsTest, DecodesArePaddedToTheNextSize) {
  EXPECT_EQ(recordings_->SizeFor(Decodes(1)).num_seqs, 1);
  EXPECT_EQ(recordings_->SizeFor(Decodes(3)).num_seqs, 4);
  const StepSize size = recordings_->SizeFor(Decodes(9));
  EXPECT_EQ(size.num_seqs, 12);
  EXPECT_EQ(size.num_tokens, 12);
}

TEST_F(StepRecordingsTest, OneShortPromptIsPaddedToo) {
  EXPECT_EQ(recordings_->SizeFor(Prompt(9, true)).num_tokens, 16);
  const StepSize size = recordings_->SizeFor(Prompt(17, true));
  EXPECT_EQ(size.num_tokens, 32);
  EXPECT_EQ(size.num_seqs, 1);
  EXPECT_LE(size.min_new_tokens, 17);
}

TEST_F(StepRecordingsTest, OtherPromptsAreNotReplayed) {
  EXPECT_EQ(recordings_->SizeFor(Prompt(8, true)).num_tokens, 0);
  EXPECT_EQ(recordings_->SizeFor(Prompt(33, true)).num_tokens, 0);
  EXPECT_EQ(recordings_->SizeFor(Prompt(16, false)).num_tokens, 0);
  StepPlan two = Prompt(16, true);
  two.chunks.push_back({SlotId(1), 9, true});
  EXPECT_EQ(recordings_->SizeFor(two).num_tokens, 0);
  StepPlan mixed = Prompt(16, true);
  mixed.decodes = {SlotId(1)};
  EXPECT_EQ(recordings_->SizeFor(mixed).num_tokens, 0);
}

TEST_F(StepRecordingsTest, ReplaysRunWhatWasRecorded) {
  ran_.clear();
  for (const StepPlan& plan :
       {Decodes(12), Decodes(4), Prompt(30, true), Decodes(11)}) {
    const auto replayed = recordings_->Replay(recordings_->SizeFor(plan));
    ASSERT_TRUE(replayed.ok()) << replayed.status();
    EXPECT_EQ(*replayed, &logits_);
  }
  EXPECT_EQ(ran_, (Sizes{{12, 12, 1}, {4, 4, 1}, {32, 1, 17}, {12, 12, 1}}));
}

TEST(StepRecordingsErrorTest, AStepThatCannotRunIsNotRecorded) {
  FakeBackend backend;
  const auto builder = *InputBuilder::Create(&backend, Limits(), 64);
  const auto recordings = StepRecordings::Create(
      &backend, builder.get(), 12, 64,
      [](const BatchInput&) -> absl::StatusOr<const float*> {
        return absl::InternalError("broken");
      });
  EXPECT_EQ(recordings.status().message(), "broken");
}

TEST(WarmUpStepsTest, ReachesTheLargestStepBySmallOnes) {
  FakeBackend backend;
  const auto builder = *InputBuilder::Create(&backend, Limits(), 700);
  std::vector<int32_t> ran;
  const absl::Status status =
      WarmUpSteps(&backend, builder.get(), 700,
                  [&](const BatchInput& batch) -> absl::StatusOr<const float*> {
                    ran.push_back(batch.num_tokens);
                    EXPECT_EQ(batch.slot_mapping[batch.num_tokens - 1], -1);
                    return nullptr;
                  });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(ran, (std::vector<int32_t>{1,   2,   4,   8,   16,  32,  48,  64,
                                       96,  128, 192, 256, 288, 320, 352, 384,
                                       416, 448, 480, 512, 640, 700}));
}

}  // namespace
}  // namespace quire
