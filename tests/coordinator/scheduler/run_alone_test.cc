// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/run_alone.h"

#include <vector>

#include "coordinator/scheduler/orca.h"
#include "coordinator/scheduler/paged_fcfs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/reserved_snapshot.h"

namespace quire {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

RunningSequence Alone(RunningSequence seq) {
  seq.runs_alone = true;
  return seq;
}

WaitingGroup Alone(WaitingGroup group) {
  group.runs_alone = true;
  return group;
}

View ViewOf(absl::Span<const RunningSequence> running,
            absl::Span<const WaitingGroup> waiting) {
  View view;
  view.running = running;
  view.waiting = waiting;
  view.num_free_blocks = 100;
  view.num_free_slots = 10;
  view.max_num_batched_tokens = 100;
  return view;
}

Decision Decide(const SchedulingPolicy& policy, const View& view,
                bool results_in_flight = false) {
  Decision decision;
  ScheduleAlone(policy, view, results_in_flight, &decision);
  return decision;
}

// Where and why groups stay.
std::vector<std::vector<int>> Stays(const Decision& decision) {
  std::vector<std::vector<int>> stays;
  for (const Blocked& blocked : decision.blocked) {
    stays.push_back({blocked.tenant_idx, blocked.waiting_idx,
                     static_cast<int>(blocked.why.reason)});
  }
  return stays;
}

constexpr int kOther = static_cast<int>(WaitReason::kOtherAlone);
constexpr int kInFlight = static_cast<int>(WaitReason::kResultsInFlight);

TEST(RunAloneTest, ThoseThatRunMakeRoomBeforeItComes) {
  const std::vector<RunningSequence> running = {Decoding(1, 5), Decoding(2, 7)};
  const std::vector<WaitingGroup> waiting = {Waiting(3, 20),
                                             Alone(Waiting(4, 30))};
  const Decision decision = Decide(PagedFcfs(), ViewOf(running, waiting), true);
  EXPECT_THAT(decision.preempted, ElementsAre(1, 0));
  EXPECT_THAT(decision.preempted_for, ElementsAre(4, 4));
  EXPECT_THAT(decision.slices, IsEmpty());
  EXPECT_THAT(decision.admissions, IsEmpty());
  EXPECT_THAT(Stays(decision), ElementsAre(ElementsAre(0, 1, kInFlight),
                                           ElementsAre(0, 0, kOther)));
}

TEST(RunAloneTest, ItWaitsForWhatIsInFlightOfOthers) {
  const std::vector<WaitingGroup> waiting = {Alone(Waiting(4, 30)),
                                             Waiting(5, 1)};
  const Decision decision = Decide(PagedFcfs(), ViewOf({}, waiting), true);
  EXPECT_THAT(decision.admissions, IsEmpty());
  EXPECT_THAT(Stays(decision), ElementsAre(ElementsAre(0, 0, kInFlight),
                                           ElementsAre(0, 1, kOther)));
}

TEST(RunAloneTest, ItComesAloneWhoeverIsBeforeIt) {
  const std::vector<WaitingGroup> waiting = {
      Waiting(3, 20), Alone(Waiting(4, 30)), Alone(Waiting(5, 30))};
  const PagedFcfs paged;
  const Orca orca;
  for (const SchedulingPolicy* policy :
       std::initializer_list<const SchedulingPolicy*>{&paged, &orca}) {
    const Decision decision = Decide(*policy, ViewOf({}, waiting));
    EXPECT_THAT(decision.admissions, ElementsAre(Admission{1, 30, 0}));
    EXPECT_THAT(Stays(decision), ElementsAre(ElementsAre(0, 0, kOther)));
  }
}

TEST(RunAloneTest, NobodyJoinsIt) {
  const std::vector<RunningSequence> running = {Alone(Decoding(4, 7))};
  const std::vector<WaitingGroup> waiting = {Waiting(3, 20),
                                             Alone(Waiting(5, 30))};
  const Decision decision = Decide(PagedFcfs(), ViewOf(running, waiting), true);
  EXPECT_THAT(decision.preempted, IsEmpty());
  EXPECT_THAT(decision.slices, ElementsAre(ScheduledSlice{0, 1}));
  EXPECT_THAT(decision.admissions, IsEmpty());
  EXPECT_THAT(Stays(decision), ElementsAre(ElementsAre(0, 0, kOther)));
}

TEST(RunAloneTest, APolicyThatPreemptsNobodyLetsThemEnd) {
  const std::vector<RunningSequence> running = {Decoding(1, 5)};
  const std::vector<WaitingGroup> waiting = {Alone(Waiting(4, 30))};
  const Decision decision = Decide(Orca(), ViewOf(running, waiting), true);
  EXPECT_THAT(decision.slices, ElementsAre(ScheduledSlice{0, 1}));
  EXPECT_THAT(decision.preempted, IsEmpty());
  EXPECT_THAT(decision.admissions, IsEmpty());
  EXPECT_THAT(Stays(decision), ElementsAre(ElementsAre(0, 0, kOther)));
}

TEST(RunAloneTest, OfTenantsTheFirstInTheOrderOfServiceComes) {
  const std::vector<WaitingGroup> queues[] = {
      {Waiting(1, 20), Alone(Waiting(5, 50))},
      {Waiting(2, 20), Alone(Waiting(4, 40)), Alone(Waiting(6, 60))},
      {}};
  std::vector<TenantView> tenants(3);
  for (int i = 0; i < 3; ++i) tenants[i].waiting = queues[i];
  View view = ViewOf({}, {});
  view.tenants = tenants;
  const Decision decision = Decide(PagedFcfs(), view);
  EXPECT_THAT(decision.admissions, ElementsAre(Admission{1, 40, 1}));
  EXPECT_THAT(Stays(decision), ElementsAre(ElementsAre(0, 0, kOther),
                                           ElementsAre(1, 0, kOther)));
}

TEST(RunAloneTest, OfTenantsPriorityGoesBeforeArrival) {
  WaitingGroup early = Alone(Waiting(4, 40));
  early.rank = 1;
  const std::vector<WaitingGroup> queues[] = {{early}, {Alone(Waiting(5, 50))}};
  std::vector<TenantView> tenants(2);
  for (int i = 0; i < 2; ++i) tenants[i].waiting = queues[i];
  View view = ViewOf({}, {});
  view.tenants = tenants;
  EXPECT_THAT(Decide(PagedFcfs(), view).admissions,
              ElementsAre(Admission{0, 50, 1}));
}

TEST(RunAloneTest, WhatDoesNotFitStaysForThePolicysReason) {
  const std::vector<WaitingGroup> waiting = {
      Alone(Waiting(4, 30, /*num_wanted_blocks=*/101))};
  const Decision decision = Decide(PagedFcfs(), ViewOf({}, waiting));
  EXPECT_THAT(decision.admissions, IsEmpty());
  EXPECT_THAT(Stays(decision),
              ElementsAre(ElementsAre(
                  0, 0, static_cast<int>(WaitReason::kNeedsBlocks))));
  // The same of a tenant that is not the first.
  std::vector<TenantView> tenants(2);
  tenants[1].waiting = waiting;
  View view = ViewOf({}, {});
  view.tenants = tenants;
  EXPECT_THAT(Stays(Decide(PagedFcfs(), view)),
              ElementsAre(ElementsAre(
                  1, 0, static_cast<int>(WaitReason::kNeedsBlocks))));
}

}  // namespace
}  // namespace quire
