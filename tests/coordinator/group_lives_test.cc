// SPDX-License-Identifier: Apache-2.0
#include "coordinator/group_lives.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Status kGone = absl::UnavailableError("rank 1 is gone");
const absl::Status kTruncated = absl::DataLossError("a shard is truncated");

constexpr Epoch kFirst(1);

std::string Text(const LostGroup& lost) {
  return absl::StrCat("lost", lost.was_ready ? " that was ready" : "", ", ",
                      lost.num_left, " left, ", lost.num_hopeful,
                      " hopeful: ", std::string(lost.cause.message()));
}

class GroupLivesTest : public testing::Test {
 protected:
  // Groups are in their first epoch.
  void Start(int32_t num_groups, bool reform = true) {
    epochs_.assign(num_groups, kFirst);
    GroupLives::Callbacks callbacks;
    callbacks.is_current = [this](int32_t group_idx, Epoch group_epoch) {
      return epochs_[group_idx] == group_epoch;
    };
    callbacks.set_serving = [this](bool is_serving) {
      Tell(is_serving ? "serving" : "not serving");
    };
    callbacks.on_ready = [this](int32_t num_blocks,
                                const std::string& missing) {
      Tell(absl::StrCat("ready, ", num_blocks, " blocks: ", missing));
    };
    callbacks.on_lost = [this](const LostGroup& lost) { Tell(Text(lost)); };
    lives_ = std::make_unique<GroupLives>(
        GroupLives::Options{.num_groups = num_groups, .reform = reform},
        callbacks);
  }

  void Tell(const std::string& text) {
    EXPECT_EQ(num_inside_.fetch_add(1), 0);
    std::this_thread::yield();  // to whoever may come, too
    told_.push_back(text);
    --num_inside_;
  }

  // What was told since the last call.
  std::vector<std::string> Told() { return std::exchange(told_, {}); }

  std::vector<Epoch> epochs_;  // [num_groups]
  std::vector<std::string> told_;
  std::atomic<int> num_inside_{0};  // callbacks
  std::unique_ptr<GroupLives> lives_;
};

TEST_F(GroupLivesTest, IsReadyWhenTheLastGroupIsAndServesFromTheFirstOn) {
  Start(/*num_groups=*/2);
  lives_->OnReady(1, kFirst, /*num_blocks=*/32);
  EXPECT_THAT(Told(), ElementsAre("serving"));
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  EXPECT_THAT(Told(), ElementsAre("serving", "ready, 96 blocks: "));
}

TEST_F(GroupLivesTest, WhatIsReadyAfterItsEpochChangesNothing) {
  Start(/*num_groups=*/2);
  epochs_[1] = Epoch(2);
  lives_->OnReady(1, kFirst, /*num_blocks=*/32);
  EXPECT_THAT(Told(), IsEmpty());
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  EXPECT_THAT(Told(), ElementsAre("serving"));  // the other is on its way
  lives_->OnReady(1, Epoch(2), /*num_blocks=*/16);
  EXPECT_THAT(Told(), ElementsAre("serving", "ready, 80 blocks: "));
}

TEST_F(GroupLivesTest, ServesAsLongAsAnyGroupIsReady) {
  Start(/*num_groups=*/2);
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  lives_->OnReady(1, kFirst, /*num_blocks=*/64);
  Told();
  lives_->OnLost(0, kGone, /*was_launched=*/true);
  EXPECT_THAT(Told(), ElementsAre("lost that was ready, 1 left, 2 hopeful: "
                                  "group 0: rank 1 is gone"));
  lives_->OnLost(1, kGone, /*was_launched=*/true);
  EXPECT_THAT(Told(), ElementsAre("not serving",
                                  "lost that was ready, 0 left, 2 hopeful: "
                                  "group 1: rank 1 is gone"));
}

TEST_F(GroupLivesTest, WhatWasLaunchedAndNeverTakenHasRunOnlyIfAWorkerIsGone) {
  Start(/*num_groups=*/3);
  lives_->OnLost(0, kTruncated, /*was_launched=*/true);  // by the engine
  EXPECT_THAT(Told(), ElementsAre("not serving",
                                  "lost, 2 left, 2 hopeful: "
                                  "group 0: a shard is truncated"));
  lives_->OnLost(1, kGone, /*was_launched=*/true);
  EXPECT_THAT(Told(), ElementsAre("not serving",
                                  "lost that was ready, 1 left, 2 hopeful: "
                                  "group 1: rank 1 is gone"));
  lives_->OnLost(2, kGone, /*was_launched=*/false);
  EXPECT_THAT(Told(), ElementsAre("not serving",
                                  "lost, 0 left, 2 hopeful: "
                                  "group 2: rank 1 is gone"));
}

TEST_F(GroupLivesTest, WhatWasTakenHasRunWhateverEndsIt) {
  Start(/*num_groups=*/1);
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  Told();
  lives_->OnLost(0, kTruncated, /*was_launched=*/true);
  EXPECT_THAT(
      Told(),
      ElementsAre(
          "not serving",
          "lost that was ready, 0 left, 1 hopeful: a shard is truncated"));
}

TEST_F(GroupLivesTest, AGroupLostOnItsWayIsWaitedForNoMore) {
  Start(/*num_groups=*/3);
  lives_->OnLost(1, kTruncated, /*was_launched=*/false);
  lives_->OnLost(2, kGone, /*was_launched=*/false);
  Told();
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  EXPECT_THAT(Told(),
              ElementsAre("serving",
                          "ready, 64 blocks: group 1: a shard is truncated"));
}

TEST_F(GroupLivesTest, TheLossOfTheLastOnItsWayMakesTheOthersAllThereIs) {
  Start(/*num_groups=*/2);
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  Told();
  lives_->OnLost(1, kTruncated, /*was_launched=*/false);
  EXPECT_THAT(
      Told(),
      ElementsAre("lost, 1 left, 1 hopeful: group 1: a shard is truncated",
                  "ready, 64 blocks: group 1: a shard is truncated"));
}

TEST_F(GroupLivesTest, IsNotReadyWhenALossEndsTheService) {
  Start(/*num_groups=*/2, /*reform=*/false);
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  Told();
  lives_->OnLost(1, kTruncated, /*was_launched=*/false);
  EXPECT_THAT(
      Told(),
      ElementsAre("lost, 1 left, 1 hopeful: group 1: a shard is truncated"));
}

TEST_F(GroupLivesTest, IsNotReadyWhenAllAreLost) {
  Start(/*num_groups=*/2);
  lives_->OnLost(0, kTruncated, /*was_launched=*/false);
  lives_->OnLost(1, kTruncated, /*was_launched=*/false);
  EXPECT_THAT(Told(), ElementsAre("not serving",
                                  "lost, 1 left, 1 hopeful: "
                                  "group 0: a shard is truncated",
                                  "not serving",
                                  "lost, 0 left, 0 hopeful: "
                                  "group 1: a shard is truncated"));
}

TEST_F(GroupLivesTest, IsReadyAnewWithEachGroupThatIsBackAndWithNoLoss) {
  Start(/*num_groups=*/2);
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  lives_->OnReady(1, kFirst, /*num_blocks=*/32);
  lives_->OnLost(0, kGone, /*was_launched=*/true);
  Told();
  lives_->OnLost(1, kTruncated, /*was_launched=*/true);
  EXPECT_THAT(Told(), ElementsAre("not serving",
                                  "lost that was ready, 0 left, 2 hopeful: "
                                  "group 1: a shard is truncated"));
  epochs_ = {Epoch(2), Epoch(2)};
  lives_->OnReady(1, Epoch(2), /*num_blocks=*/16);
  EXPECT_THAT(Told(), ElementsAre("serving",
                                  "ready, 16 blocks: group 0: rank 1 is gone"));
  lives_->OnReady(0, Epoch(2), /*num_blocks=*/64);
  EXPECT_THAT(Told(), ElementsAre("serving", "ready, 80 blocks: "));
}

TEST_F(GroupLivesTest, ServesNoMoreOnceItIsStopped) {
  Start(/*num_groups=*/2);
  lives_->OnReady(0, kFirst, /*num_blocks=*/64);
  Told();
  lives_->StopServing();
  EXPECT_THAT(Told(), ElementsAre("not serving"));
  lives_->OnReady(1, kFirst, /*num_blocks=*/64);
  EXPECT_THAT(Told(), ElementsAre("ready, 128 blocks: "));
}

TEST_F(GroupLivesTest, NoGroupThatBecomesReadyMeanwhileUndoesTheStop) {
  for (int i = 0; i < 200; ++i) {
    Start(/*num_groups=*/1);
    std::thread ready([this] { lives_->OnReady(0, kFirst, /*num_blocks=*/8); });
    lives_->StopServing();
    ready.join();
    std::vector<std::string> told = Told();
    std::erase(told, "ready, 8 blocks: ");
    EXPECT_EQ(told.back(), "not serving");
  }
}

TEST_F(GroupLivesTest, CallbacksComeOneAtATimeInTheOrderOfWhatTheyTell) {
  constexpr int kGroups = 4;
  constexpr int kTimes = 100;
  Start(kGroups);
  std::vector<std::thread> threads;
  for (int group_idx = 0; group_idx < kGroups; ++group_idx) {
    threads.emplace_back([this, group_idx] {
      for (int i = 0; i < kTimes; ++i) {
        lives_->OnReady(group_idx, kFirst, /*num_blocks=*/8);
        lives_->OnLost(group_idx, kGone, /*was_launched=*/true);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> told = Told();
  EXPECT_EQ(std::count(told.begin(), told.end(), "serving"), kGroups * kTimes);
  const auto last_serving = std::find(told.rbegin(), told.rend(), "serving");
  const auto last_not = std::find(told.rbegin(), told.rend(), "not serving");
  EXPECT_LT(last_not - told.rbegin(), last_serving - told.rbegin());
}

TEST_F(GroupLivesTest, NobodyNeedsToBeTold) {
  GroupLives lives({}, {.is_current = [](int32_t, Epoch) { return true; },
                        .set_serving = [](bool) {},
                        .on_ready = nullptr,
                        .on_lost = nullptr});
  lives.OnReady(0, kFirst, /*num_blocks=*/64);
  lives.OnLost(0, kGone, /*was_launched=*/true);
}

}  // namespace
}  // namespace quire
