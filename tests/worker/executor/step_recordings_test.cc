// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/step_recordings.h"

#include <vector>

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

TEST(StepRecordingsTest, EachSizeRunsOnceAndThenAsOftenAsItIsReplayed) {
  FakeBackend backend;
  const auto builder = *InputBuilder::Create(&backend, Limits(), 64);
  std::vector<int32_t> ran;
  float logits = 0;
  const auto recordings = StepRecordings::Create(
      &backend, builder.get(), 12,
      [&](const BatchInput& batch) -> absl::StatusOr<const float*> {
        EXPECT_EQ(batch.num_tokens, batch.num_seqs);
        ran.push_back(batch.num_seqs);
        return &logits;
      });
  ASSERT_TRUE(recordings.ok()) << recordings.status();
  // The largest first.
  EXPECT_EQ(ran, (std::vector<int32_t>{12, 8, 4, 2, 1}));
  EXPECT_EQ((*recordings)->SizeFor(1), 1);
  EXPECT_EQ((*recordings)->SizeFor(3), 4);
  EXPECT_EQ((*recordings)->SizeFor(9), 12);
  ran.clear();
  for (int32_t size : {12, 4, 12}) {
    const auto replayed = (*recordings)->Replay(size);
    ASSERT_TRUE(replayed.ok()) << replayed.status();
    EXPECT_EQ(*replayed, &logits);
  }
  EXPECT_EQ(ran, (std::vector<int32_t>{12, 4, 12}));
}

TEST(StepRecordingsTest, AStepThatCannotRunIsNotRecorded) {
  FakeBackend backend;
  const auto builder = *InputBuilder::Create(&backend, Limits(), 64);
  const auto recordings = StepRecordings::Create(
      &backend, builder.get(), 12,
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
