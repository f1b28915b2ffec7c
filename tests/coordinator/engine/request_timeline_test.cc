// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/request_timeline.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

absl::Time At(int64_t ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

absl::Duration Total(const Timeline& timeline, WaitReason reason) {
  return timeline.totals[static_cast<int>(reason)];
}

Timeline MustFind(const RequestTimelines& timelines, const std::string& id,
                  int64_t ms) {
  const auto timeline = timelines.Find(id, At(ms));
  EXPECT_TRUE(timeline.ok()) << timeline.status();
  return timeline.ok() ? *timeline : Timeline();
}

TEST(RequestTimelinesTest, IntervalsTouchAndAddUpToTheWait) {
  RequestTimelines timelines;
  timelines.Begin(1, "a", 0, WaitReason::kNextStep, At(10));
  timelines.Waits(1, {.reason = WaitReason::kNeedsBlocks, .num_needed = 3},
                  At(12));
  // The same reason with other numbers is the same interval.
  timelines.Waits(1, {.reason = WaitReason::kNeedsBlocks, .num_needed = 2},
                  At(15));
  timelines.Waits(1, {.reason = WaitReason::kNoSlot}, At(20));
  timelines.Run(1, At(25));
  const Timeline timeline = MustFind(timelines, "a", 40);
  EXPECT_EQ(timeline.state, TimelineState::kRunning);
  EXPECT_EQ(timeline.end, At(40));
  ASSERT_EQ(timeline.intervals.size(), 3);
  for (size_t i = 1; i < timeline.intervals.size(); ++i) {
    EXPECT_EQ(timeline.intervals[i].from, timeline.intervals[i - 1].to);
  }
  EXPECT_EQ(timeline.intervals[1].why.num_needed, 3);
  EXPECT_EQ(Total(timeline, WaitReason::kNeedsBlocks), absl::Milliseconds(8));
  EXPECT_EQ(timeline.waited(), absl::Milliseconds(15));
  EXPECT_EQ(timelines.totals()[static_cast<int>(WaitReason::kNoSlot)],
            absl::Milliseconds(5));
}

TEST(RequestTimelinesTest, AWaitThatLastsCountsUpToTheQuestion) {
  RequestTimelines timelines;
  timelines.Begin(1, "a", 0, WaitReason::kNoWorkerGroup, At(0));
  EXPECT_TRUE(timelines.is_waiting(1));
  EXPECT_EQ(MustFind(timelines, "a", 7).waited(), absl::Milliseconds(7));
  EXPECT_EQ(MustFind(timelines, "a", 9).waited(), absl::Milliseconds(9));
  // Of what has not ended nothing is exported yet.
  EXPECT_EQ(timelines.totals()[static_cast<int>(WaitReason::kNoWorkerGroup)],
            absl::ZeroDuration());
}

TEST(RequestTimelinesTest, AReasonThatHeldForNoTimeIsNotListed) {
  RequestTimelines timelines;
  timelines.Begin(1, "a", 0, WaitReason::kNextStep, At(0));
  timelines.Waits(1, {.reason = WaitReason::kNoSlot}, At(0));
  timelines.Run(1, At(3));
  const Timeline timeline = MustFind(timelines, "a", 3);
  ASSERT_EQ(timeline.intervals.size(), 1);
  EXPECT_EQ(timeline.intervals[0].why.reason, WaitReason::kNoSlot);
}

TEST(RequestTimelinesTest, WhoeverTookTheBlocksStaysTheReasonThatThereAreNone) {
  RequestTimelines timelines;
  timelines.Begin(1, "taker", 0, WaitReason::kNextStep, At(0));
  timelines.Begin(2, "victim", 0, WaitReason::kNextStep, At(0));
  timelines.Run(1, At(1));
  timelines.Run(2, At(1));
  timelines.Interrupt(
      2, {.reason = WaitReason::kPreemptedBy, .other_arrival = 1}, At(5));
  timelines.End(1, At(6));  // its name is remembered
  timelines.Waits(2, {.reason = WaitReason::kResultsInFlight}, At(6));
  timelines.Waits(2, {.reason = WaitReason::kNeedsBlocks}, At(8));
  const Timeline timeline = MustFind(timelines, "victim", 10);
  EXPECT_EQ(timeline.num_preemptions, 1);
  EXPECT_EQ(Total(timeline, WaitReason::kPreemptedBy), absl::Milliseconds(3));
  EXPECT_EQ(Total(timeline, WaitReason::kNeedsBlocks), absl::ZeroDuration());
  EXPECT_EQ(timeline.intervals.back().other, "taker");
  // Once it has run again that is over.
  timelines.Run(2, At(10));
  timelines.Interrupt(2, {.reason = WaitReason::kResync}, At(12));
  timelines.Waits(2, {.reason = WaitReason::kNeedsBlocks}, At(13));
  EXPECT_EQ(Total(MustFind(timelines, "victim", 14), WaitReason::kNeedsBlocks),
            absl::Milliseconds(1));
}

TEST(RequestTimelinesTest, ThoseBehindShareTheCausesOfThoseBefore) {
  RequestTimelines timelines;
  timelines.Begin(1, "a", /*tenant_idx=*/1, WaitReason::kNextStep, At(0));
  timelines.SetBehindCause(1, WaitReason::kNeedsBlocks, At(0));
  timelines.WaitsBehind(1, /*num_ahead=*/4, At(2));
  EXPECT_TRUE(timelines.is_behind(1));
  timelines.SetBehindCause(1, WaitReason::kTokenBudget, At(6));
  timelines.SetBehindCause(0, WaitReason::kNoSlot, At(7));  // another's
  timelines.Run(1, At(9));
  EXPECT_FALSE(timelines.is_behind(1));
  const Timeline timeline = MustFind(timelines, "a", 9);
  EXPECT_EQ(Total(timeline, WaitReason::kBehind), absl::Milliseconds(7));
  EXPECT_EQ(timeline.behind_causes[static_cast<int>(WaitReason::kNeedsBlocks)],
            absl::Milliseconds(4));
  EXPECT_EQ(timeline.behind_causes[static_cast<int>(WaitReason::kTokenBudget)],
            absl::Milliseconds(3));
}

TEST(RequestTimelinesTest, OldIntervalsGoButTheirTimeStays) {
  RequestTimelines timelines;
  timelines.Begin(1, "a", 0, WaitReason::kNextStep, At(0));
  const int num_changes = kMaxWaitIntervals + 5;
  for (int i = 1; i <= num_changes; ++i) {
    timelines.Waits(
        1,
        {.reason = i % 2 == 1 ? WaitReason::kNoSlot : WaitReason::kNeedsBlocks},
        At(i));
  }
  const Timeline timeline = MustFind(timelines, "a", num_changes + 1);
  EXPECT_EQ(timeline.intervals.size(), kMaxWaitIntervals);
  EXPECT_EQ(timeline.unlisted, absl::Milliseconds(6));
  EXPECT_EQ(timeline.waited(), absl::Milliseconds(num_changes + 1));
}

TEST(RequestTimelinesTest, TheLastThatEndedAreRemembered) {
  RequestTimelines timelines;
  for (int i = 0; i <= kMaxEndedTimelines; ++i) {
    timelines.Begin(i + 1, absl::StrCat("r", i), 0, WaitReason::kNextStep,
                    At(i));
    timelines.End(i + 1, At(i + 1));
  }
  EXPECT_EQ(timelines.Find("r0", At(0)).status().code(),
            absl::StatusCode::kNotFound);
  const Timeline timeline = MustFind(timelines, "r1", 5000);
  EXPECT_EQ(timeline.state, TimelineState::kEnded);
  EXPECT_EQ(timeline.end, At(2));
}

TEST(RequestTimelinesTest, AnIdThatIsUsedAgainIsTheOneThatRuns) {
  RequestTimelines timelines;
  timelines.Begin(1, "a", 0, WaitReason::kNextStep, At(0));
  timelines.End(1, At(1));
  timelines.Begin(2, "a", 0, WaitReason::kNextStep, At(5));
  EXPECT_EQ(MustFind(timelines, "a", 6).arrival, At(5));
  timelines.End(2, At(7));
  EXPECT_EQ(MustFind(timelines, "a", 9).arrival, At(5));
}

TEST(RequestTimelinesTest, AllWhoWaitAreAskedAboutAgain) {
  RequestTimelines timelines;
  timelines.Begin(2, "b", 0, WaitReason::kNextStep, At(0));
  timelines.Begin(1, "a", 0, WaitReason::kNextStep, At(0));
  timelines.Begin(3, "runs", 0, WaitReason::kNextStep, At(0));
  timelines.Run(3, At(0));
  timelines.TakeUnexplained();
  timelines.AllWait(WaitReason::kResync, At(4));
  EXPECT_EQ(timelines.TakeUnexplained(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(Total(MustFind(timelines, "a", 6), WaitReason::kResync),
            absl::Milliseconds(2));
  EXPECT_EQ(MustFind(timelines, "runs", 6).waited(), absl::ZeroDuration());
}

}  // namespace
}  // namespace quire
