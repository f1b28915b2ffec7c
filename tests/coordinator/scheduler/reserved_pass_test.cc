// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/reserved_pass.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/reserved_snapshot.h"

namespace quire {
namespace {

View ViewOf(const Snapshot& snapshot) {
  View view;
  view.running = snapshot.running;
  view.waiting = snapshot.waiting;
  view.num_free_blocks = snapshot.num_free_blocks;
  view.num_free_slots = snapshot.num_free_slots;
  view.max_num_batched_tokens = snapshot.budget;
  return view;
}

using Slices = std::vector<ScheduledSlice>;
using Admissions = std::vector<Admission>;

TEST(ReservedPassTest, DecodesGoFirstAndTheEarliestOfThem) {
  Snapshot snapshot;
  snapshot.running = {Prefilling(1, 50, 20), Decoding(2, 9), Decoding(3, 9),
                      Decoding(4, 9)};
  snapshot.running[2].awaits_result = true;
  snapshot.budget = 12;
  const View view = ViewOf(snapshot);
  Decision decision;
  ReservedPass pass(view, &decision);
  pass.ScheduleDecodes();
  EXPECT_EQ(decision.slices, (Slices{{1, 1}, {3, 1}}));
  pass.ScheduleChunks();  // with the ten tokens that are left
  EXPECT_EQ(decision.slices, (Slices{{1, 1}, {3, 1}, {0, 10}}));
}

TEST(ReservedPassTest, WhoeverIsAsLongAsItMayBeIsLeftOut) {
  Snapshot snapshot;
  snapshot.running = {Decoding(1, 9)};
  snapshot.running[0].max_num_tokens = 9;
  const View view = ViewOf(snapshot);
  Decision decision;
  ReservedPass pass(view, &decision);
  pass.ScheduleDecodes();
  EXPECT_TRUE(decision.slices.empty());
}

TEST(ReservedPassTest, ThoseThatWaitComeInOrderUntilOneDoesNotFit) {
  Snapshot snapshot;
  snapshot.waiting = {Waiting(1, 30), Waiting(2, 30), Waiting(3, 5, 200),
                      Waiting(4, 5)};
  Decision decision;
  ReservedPass(ViewOf(snapshot), &decision).Admit();
  EXPECT_EQ(decision.admissions, (Admissions{{0, 30}, {1, 30}}));
}

TEST(ReservedPassTest, OnlyTheFirstPromptOfAStepMayComeInParts) {
  Snapshot snapshot;
  snapshot.waiting = {Waiting(1, 150), Waiting(2, 5)};
  Decision decision;
  ReservedPass(ViewOf(snapshot), &decision).Admit();
  EXPECT_EQ(decision.admissions, (Admissions{{0, 100}}));
  // Behind another it waits for a step that has room for all of it.
  snapshot.waiting = {Waiting(1, 40), Waiting(2, 70)};
  decision.Clear();
  ReservedPass(ViewOf(snapshot), &decision).Admit();
  EXPECT_EQ(decision.admissions, (Admissions{{0, 40}}));
}

TEST(ReservedPassTest, AGroupNeedsSlotsForAllOfIt) {
  Snapshot snapshot;
  snapshot.waiting = {Waiting(1, 10)};
  snapshot.waiting[0].num_seqs = 3;
  snapshot.num_free_slots = 2;
  Decision decision;
  ReservedPass(ViewOf(snapshot), &decision).Admit();
  EXPECT_TRUE(decision.admissions.empty());
}

}  // namespace
}  // namespace quire
