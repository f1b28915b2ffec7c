// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/orca.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/reserved_snapshot.h"

namespace quire {
namespace {

std::vector<Snapshot> Snapshots() {
  return {
      {.name = "nothing to do"},
      {.name = "every iteration: decodes, then who waits",
       .running = {Decoding(1, 5), Decoding(2, 7)},
       .waiting = {Waiting(3, 20), Waiting(4, 30)},
       .slices = {{0, 1}, {1, 1}},
       .admissions = {{0, 20}, {1, 30}}},
      {.name = "a prompt waits for an iteration with room for all of it",
       .waiting = {Waiting(1, 60), Waiting(2, 60)},
       .admissions = {{0, 60}}},
      {.name = "the first prompt of an iteration may be cut",
       .running = {Decoding(1, 5)},
       .waiting = {Waiting(2, 300), Waiting(3, 1)},
       .slices = {{0, 1}},
       .admissions = {{0, 99}}},
      {.name = "what was cut goes on before anybody comes in",
       .running = {Decoding(1, 5), Prefilling(2, 300, 250)},
       .waiting = {Waiting(3, 80), Waiting(4, 3)},
       .slices = {{0, 1}, {1, 50}}},
      {.name = "beside a prompt that was cut, others come in whole",
       .running = {Prefilling(1, 300, 250)},
       .waiting = {Waiting(2, 30), Waiting(3, 30)},
       .slices = {{0, 50}},
       .admissions = {{0, 30}}},
      {.name = "a head that does not fit is passed by nobody",
       .waiting = {Waiting(1, 5, 101), Waiting(2, 5, 1)}},
      {.name = "reservations add up",
       .waiting = {Waiting(1, 5, 60), Waiting(2, 5, 40), Waiting(3, 5, 1)},
       .admissions = {{0, 5}, {1, 5}}},
      {.name = "no more than there are slots",
       .waiting = {OfSeqs(Waiting(1, 5), 2), Waiting(2, 5)},
       .num_free_slots = 2,
       .admissions = {{0, 5}}},
      {.name = "results in flight hold the queue",
       .waiting = {NotReady(Waiting(1, 5)), Waiting(2, 5)}},
      {.name = "who has all it may get, or awaits a result, is not run",
       .running = {Exhausted(Decoding(1, 5)), AwaitingResult(Decoding(2, 5)),
                   AwaitingResult(Prefilling(3, 8, 4)), Decoding(4, 5)},
       .slices = {{3, 1}}},
      {.name = "nobody is preempted, however full the pool",
       .running = {Decoding(1, 5), Decoding(2, 5)},
       .num_free_blocks = 0,
       .force_preemption = true,
       .slices = {{0, 1}, {1, 1}}},
      {.name = "a budget smaller than the decodes serves the earliest",
       .running = {Decoding(1, 5), Decoding(2, 5)},
       .waiting = {Waiting(3, 5)},
       .budget = 1,
       .slices = {{0, 1}}},
  };
}

TEST(OrcaTest, DecidesEachSnapshotAsItShould) {
  for (const Snapshot& snapshot : Snapshots()) {
    SCOPED_TRACE(snapshot.name);
    const Decision decision = Decide(Orca(), snapshot);
    EXPECT_TRUE(decision.preempted.empty());
    EXPECT_EQ(decision.slices, snapshot.slices);
    EXPECT_EQ(decision.admissions, snapshot.admissions);
  }
}

}  // namespace
}  // namespace quire
