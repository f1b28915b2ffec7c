// SPDX-License-Identifier: Apache-2.0
//
// The protocol of kernels/cuda/all_reduce.h played through by 2, 4 and 8 ranks,
// word by word in random order: nobody overwrites what has not been read, reads
// what was not meant for it, or waits for ever; nor does who is left when a
// rank dies in the middle and the hosts say so.
#include <cstdint>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/all_reduce_play.h"

namespace quire {
namespace {

std::vector<Call> RandomCalls(int32_t num_ranks, uint32_t seed) {
  constexpr Way kWays[] = {Way::kOneShot, Way::kTwoShot, Way::kSent, Way::kNorm,
                           Way::kSentNorm};
  std::mt19937 random(seed);
  std::vector<Call> calls;
  for (int i = 0; i < 24; ++i) {
    const Way way = kWays[random() % std::size(kWays)];
    const int64_t least =
        way == Way::kTwoShot ? MinTwoShotVectors(num_ranks) : 1;
    if (HasRows(way)) {
      calls.push_back({way, 1 + static_cast<int64_t>(random() % 6),
                       1 + static_cast<int64_t>(random() % 5)});
    } else {
      calls.push_back({way, least + static_cast<int64_t>(random() % 21)});
    }
  }
  return calls;
}

TEST(AllReduceScheduleTest, AnyOrderOfRanksAndThreadsIsSafe) {
  for (const int32_t num_ranks : {2, 4, 8}) {
    for (uint32_t seed = 0; seed < 40; ++seed) {
      Play play(num_ranks, 1 + seed % 5, /*num_halves=*/2,
                RandomCalls(num_ranks, seed), seed);
      ASSERT_EQ(play.Run(), "") << num_ranks << " ranks, seed " << seed;
    }
  }
}

TEST(AllReduceScheduleTest, OneHalfWouldNotDo) {
  for (const int32_t num_ranks : {2, 4, 8}) {
    int num_wrong = 0;
    for (uint32_t seed = 0; seed < 20; ++seed) {
      Play play(num_ranks, 3, /*num_halves=*/1, RandomCalls(num_ranks, seed),
                seed);
      num_wrong += !play.Run().empty();
    }
    EXPECT_GT(num_wrong, 0) << num_ranks << " ranks";
  }
}

TEST(AllReduceScheduleTest, AGuessOfTheTurnNeedsToBeConfirmed) {
  for (const int32_t num_ranks : {2, 4, 8}) {
    int num_wrong = 0;
    for (uint32_t seed = 0; seed < 40; ++seed) {
      Play play(num_ranks, 3, /*num_halves=*/2, RandomCalls(num_ranks, seed),
                seed, {.confirms = false});
      num_wrong += !play.Run().empty();
    }
    EXPECT_GT(num_wrong, 0) << num_ranks << " ranks";
  }
}

// A rank dies anywhere, and the others' hosts say so later, one by one.
TEST(AllReduceScheduleTest, WhoeverIsLeftEndsWhenARankDiesInTheMiddle) {
  for (const int32_t num_ranks : {2, 4, 8}) {
    int num_unfinished = 0;
    for (uint32_t seed = 0; seed < 40; ++seed) {
      std::mt19937 random(seed);
      Trouble trouble;
      trouble.victim = static_cast<int32_t>(random() % num_ranks);
      trouble.death = 1 + random() % 2000;
      const std::vector<Call> calls = RandomCalls(num_ranks, seed);
      // Without a word they wait for it, and do nothing wrong meanwhile.
      Play waiting(num_ranks, 3, /*num_halves=*/2, calls, seed, trouble);
      const std::string wait = waiting.Run();
      if (waiting.num_begun() < static_cast<int64_t>(calls.size())) {
        EXPECT_TRUE(absl::StrContains(wait, "waits for ever")) << wait;
        ++num_unfinished;
      } else {
        EXPECT_EQ(wait, "");
      }
      trouble.word = trouble.death + random() % 500;
      Play told(num_ranks, 3, /*num_halves=*/2, calls, seed, trouble);
      ASSERT_EQ(told.Run(), "") << num_ranks << " ranks, seed " << seed;
      EXPECT_EQ(told.num_begun(), calls.size());
    }
    EXPECT_GT(num_unfinished, 20) << num_ranks << " ranks";
  }
}

}  // namespace
}  // namespace quire
