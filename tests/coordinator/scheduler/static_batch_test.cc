// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/static_batch.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/reserved_snapshot.h"

namespace quire {
namespace {

// Has computed a token that it generated.
RunningSequence Started(RunningSequence seq) {
  --seq.num_prefill_tokens;
  return seq;
}

std::vector<Snapshot> Snapshots() {
  return {
      {.name = "nothing to do"},
      {.name = "a batch is made of whoever waits and fits",
       .waiting = {Waiting(1, 20, 50), Waiting(2, 30, 50), Waiting(3, 5, 1)},
       .admissions = {{0, 20}, {1, 30}}},
      {.name = "nobody comes in while a batch decodes",
       .running = {Started(Decoding(1, 5)), Decoding(2, 7)},
       .waiting = {Waiting(3, 20)},
       .slices = {{0, 1}, {1, 1}}},
      {.name = "places of those that ended stay empty",
       .running = {Started(Decoding(2, 9))},
       .waiting = {Waiting(3, 20)},
       .num_free_slots = 9,
       .slices = {{0, 1}}},
      {.name = "prompts are computed before anybody decodes",
       .running = {Decoding(1, 60), Prefilling(2, 60, 40)},
       .num_free_slots = 0,
       .slices = {{1, 20}}},
      {.name = "a batch that the budget cut is filled up first",
       .running = {Decoding(1, 60)},
       .waiting = {Waiting(2, 60), Waiting(3, 60)},
       .admissions = {{0, 60}}},
      {.name = "then it decodes",
       .running = {Decoding(1, 60), Decoding(2, 60)},
       .waiting = {Waiting(3, 60, 101)},
       .slices = {{0, 1}, {1, 1}}},
      {.name = "a prompt longer than a step is computed in several",
       .waiting = {Waiting(1, 300), Waiting(2, 5)},
       .admissions = {{0, 100}}},
      {.name = "results in flight hold the queue",
       .waiting = {NotReady(Waiting(1, 5)), Waiting(2, 5)}},
      {.name = "no more than there are slots",
       .waiting = {OfSeqs(Waiting(1, 5), 2), Waiting(2, 5)},
       .num_free_slots = 2,
       .admissions = {{0, 5}}},
      {.name = "who has all it may get, or awaits a result, is not run",
       .running = {Exhausted(Started(Decoding(1, 5))),
                   AwaitingResult(Decoding(2, 5)), Decoding(4, 5)},
       .slices = {{2, 1}}},
      {.name = "nobody is preempted, however full the pool",
       .running = {Started(Decoding(1, 5)), Decoding(2, 5)},
       .num_free_blocks = 0,
       .force_preemption = true,
       .slices = {{0, 1}, {1, 1}}},
  };
}

TEST(StaticBatchTest, DecidesEachSnapshotAsItShould) {
  for (const Snapshot& snapshot : Snapshots()) {
    SCOPED_TRACE(snapshot.name);
    const Decision decision = Decide(StaticBatch(), snapshot);
    EXPECT_TRUE(decision.preempted.empty());
    EXPECT_EQ(decision.slices, snapshot.slices);
    EXPECT_EQ(decision.admissions, snapshot.admissions);
  }
}

}  // namespace
}  // namespace quire
