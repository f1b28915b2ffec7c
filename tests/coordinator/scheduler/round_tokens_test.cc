// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/round_tokens.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// Eight decodes, then prompts.
class RoundTokensTest : public testing::Test {
 protected:
  static constexpr int32_t kNumDecodes = 8;

  RoundTokensTest() {
    for (int32_t i = 0; i < kNumDecodes; ++i) {
      RunningSequence decode;
      decode.num_tokens = 11;
      decode.num_prefill_tokens = 10;
      decode.num_computed_tokens = 10;
      running_.push_back(decode);
      decision_.slices.push_back({.running_idx = i, .num_tokens = 1});
    }
  }

  void AddChunk(int32_t num_tokens) {
    RunningSequence prompt;
    prompt.num_tokens = 1000;
    prompt.num_prefill_tokens = 1000;
    decision_.slices.push_back(
        {.running_idx = static_cast<int32_t>(running_.size()),
         .num_tokens = num_tokens});
    running_.push_back(prompt);
  }

  void AddAdmission(int32_t num_tokens) {
    decision_.admissions.push_back(
        {.waiting_idx = static_cast<int32_t>(decision_.admissions.size()),
         .num_tokens = num_tokens});
  }

  // Tokens of the prompts' parts, in order.
  std::vector<int32_t> Round(int32_t multiple) {
    View view;
    view.running = running_;
    view.token_multiple = multiple;
    RoundTokens(view, &decision_);
    std::vector<int32_t> parts;
    for (size_t i = 0; i < decision_.slices.size(); ++i) {
      if (i < kNumDecodes) {
        EXPECT_EQ(decision_.slices[i].num_tokens, 1);
      } else {
        parts.push_back(decision_.slices[i].num_tokens);
      }
    }
    for (const Admission& admission : decision_.admissions) {
      parts.push_back(admission.num_tokens);
    }
    return parts;
  }

  std::vector<RunningSequence> running_;
  Decision decision_;
};

using Parts = std::vector<int32_t>;

TEST_F(RoundTokensTest, TheLastPromptGivesWay) {
  AddChunk(5);
  AddAdmission(7);
  AddAdmission(9);  // 29 in all
  EXPECT_EQ(Round(8), (Parts{5, 7, 4}));
}

TEST_F(RoundTokensTest, OnesBeforeItGiveWayWhereItCannot) {
  AddChunk(5);
  AddAdmission(6);
  AddAdmission(4);  // 23 in all
  EXPECT_EQ(Round(8), (Parts{5, 2, 1}));
}

TEST_F(RoundTokensTest, AChunkGivesWayWithoutAdmissions) {
  AddChunk(3);
  AddChunk(9);  // 20 in all
  EXPECT_EQ(Round(8), (Parts{3, 5}));
}

TEST_F(RoundTokensTest, WholeMultiplesStay) {
  AddChunk(3);
  AddAdmission(5);
  EXPECT_EQ(Round(8), (Parts{3, 5}));
}

TEST_F(RoundTokensTest, NothingIsCutIfPromptsCannotGiveWayThatFar) {
  AddChunk(2);
  AddAdmission(3);  // 13 in all, of which 3 could wait
  EXPECT_EQ(Round(8), (Parts{2, 3}));
}

TEST_F(RoundTokensTest, NothingIsCutFromFewDecodes) {
  AddAdmission(100);
  EXPECT_EQ(Round(9), (Parts{100}));
}

TEST_F(RoundTokensTest, NothingIsCutFromDecodesAlone) {
  EXPECT_EQ(Round(3), Parts{});
  EXPECT_EQ(decision_.slices.size(), 8u);
}

TEST_F(RoundTokensTest, AMultipleOfOneCutsNothing) {
  AddAdmission(7);
  EXPECT_EQ(Round(1), (Parts{7}));
}

}  // namespace
}  // namespace quire
