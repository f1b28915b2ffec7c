// SPDX-License-Identifier: Apache-2.0
//
// A policy is tested by tables of snapshots: what it is shown, what it decides.
#include "coordinator/scheduler/paged_fcfs.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/snapshot_parts.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

int32_t BlocksFor(int32_t num_tokens) {
  return (num_tokens + kBlockSize - 1) / kBlockSize;
}

// Has `num_tokens` tokens, the last of which is not computed.
RunningSequence Decoding(int64_t arrival, int32_t num_tokens) {
  RunningSequence seq;
  seq.arrival = arrival;
  seq.slot = SlotId(static_cast<int32_t>(arrival));
  seq.num_tokens = num_tokens;
  seq.num_computed_tokens = num_tokens - 1;
  seq.num_prefill_tokens = num_tokens - 1;
  seq.max_num_tokens = 1000;
  seq.num_blocks = BlocksFor(num_tokens - 1);
  seq.num_private_blocks = seq.num_blocks;
  return seq;
}

RunningSequence Prefilling(int64_t arrival, int32_t num_tokens,
                           int32_t num_computed) {
  RunningSequence seq = Decoding(arrival, num_tokens);
  seq.num_prefill_tokens = num_tokens;
  seq.num_computed_tokens = num_computed;
  seq.num_blocks = BlocksFor(num_computed);
  seq.num_private_blocks = seq.num_blocks;
  return seq;
}

WaitingGroup Waiting(int64_t arrival, int32_t num_tokens) {
  WaitingGroup group;
  group.arrival = arrival;
  group.key = RequestKey(arrival);
  group.num_tokens = num_tokens;
  group.num_wanted_blocks = BlocksFor(num_tokens);
  return group;
}

RunningSequence Sharing(RunningSequence seq) {
  seq.shares_last_block = true;
  seq.num_private_blocks = 0;
  return seq;
}

RunningSequence InSlot(RunningSequence seq, int32_t slot) {
  seq.slot = SlotId(slot);
  return seq;
}

RunningSequence Awaiting(RunningSequence seq) {
  seq.awaits_result = true;
  return seq;
}

// Its window has left so many blocks behind.
RunningSequence Dropped(RunningSequence seq, int32_t num_blocks) {
  seq.num_dropped_blocks = num_blocks;
  return seq;
}

RunningSequence GainedTokens(RunningSequence seq, int32_t num_tokens) {
  seq.num_prefill_tokens = seq.num_tokens - num_tokens;
  return seq;
}

WaitingGroup Preempted(WaitingGroup group) {
  group.preempted = true;
  return group;
}

WaitingGroup Bypassed(WaitingGroup group, int32_t num_bypasses) {
  group.num_bypasses = num_bypasses;
  return group;
}

WaitingGroup Reserving(WaitingGroup group, int32_t num_tokens) {
  group.num_wanted_blocks = BlocksFor(num_tokens);
  return group;
}

struct Snapshot {
  std::string name;
  std::vector<RunningSequence> running = {};
  std::vector<WaitingGroup> waiting = {};
  int32_t num_free_blocks = 100;
  int32_t watermark_blocks = 0;
  int32_t num_free_slots = 10;
  int32_t budget = 100;
  bool force_preemption = false;
  int32_t max_seq_blocks = 1000;

  std::vector<int32_t> preempted = {};
  std::vector<ScheduledSlice> slices = {};
  std::vector<Admission> admissions = {};
};

std::vector<Snapshot> Snapshots() {
  return {
      {.name = "nothing to do"},

      // Decodes and chunks.
      {.name = "decodes go before chunks, whatever their order of arrival",
       .running = {Prefilling(1, 20, 8), Decoding(2, 5), Decoding(3, 6)},
       .slices = {{1, 1}, {2, 1}, {0, 12}}},
      {.name = "a chunk takes what decodes leave of the budget",
       .running = {Decoding(1, 5), Prefilling(2, 20, 0)},
       .budget = 7,
       .slices = {{0, 1}, {1, 6}}},
      {.name = "prompts share the budget in order of arrival",
       .running = {Prefilling(1, 10, 0), Prefilling(2, 10, 0)},
       .budget = 13,
       .slices = {{0, 10}, {1, 3}}},
      {.name = "a budget smaller than the decodes serves the earliest",
       .running = {Decoding(1, 5), Decoding(2, 5), Decoding(3, 5)},
       .budget = 2,
       .slices = {{0, 1}, {1, 1}}},
      {.name = "a sequence that has all it may get is not run further",
       .running = {Exhausted(Decoding(1, 5)), Decoding(2, 5)},
       .slices = {{1, 1}}},
      {.name = "one whose next step needs a value waits for it",
       .running = {AwaitingResult(Decoding(1, 5)), Decoding(2, 5)},
       .slices = {{1, 1}}},
      {.name = "a chunk is cut to the blocks there are",
       .running = {Decoding(1, 4), Prefilling(2, 40, 4)},
       .num_free_blocks = 2,
       .slices = {{0, 1}, {1, 8}}},

      // Preemption.
      {.name = "a decode that cannot grow preempts the last arrived",
       .running = {Decoding(1, 9), Decoding(2, 8), Decoding(3, 8)},
       .num_free_blocks = 0,
       .preempted = {2},
       .slices = {{0, 1}, {1, 1}}},
      {.name = "the last arrived preempts itself",
       .running = {Decoding(1, 8), Decoding(2, 9)},
       .num_free_blocks = 0,
       .preempted = {1},
       .slices = {{0, 1}}},
      {.name = "as many go as are needed, the last first",
       .running = {Decoding(1, 9), Decoding(2, 2), Sharing(Decoding(3, 8))},
       .num_free_blocks = 0,
       .preempted = {2, 1},  // the last had no block of its own to give
       .slices = {{0, 1}}},
      {.name = "prompts half computed are taken back too",
       .running = {Decoding(1, 9), Prefilling(2, 20, 8)},
       .num_free_blocks = 0,
       .preempted = {1},
       .slices = {{0, 1}}},
      {.name = "siblings go together",
       .running = {Decoding(1, 9), InSlot(Decoding(2, 8), 5),
                   InSlot(Decoding(2, 8), 6)},
       .num_free_blocks = 0,
       .preempted = {2, 1},
       .slices = {{0, 1}}},
      {.name = "a sibling already scheduled goes when the other cannot grow",
       .running = {Decoding(1, 8), InSlot(Decoding(2, 9), 5),
                   InSlot(Decoding(2, 9), 6)},
       .num_free_blocks = 1,
       .preempted = {2, 1},
       .slices = {{0, 1}}},
      {.name = "a shared last block takes one more",
       .running = {Sharing(Decoding(1, 7)), Decoding(2, 7)},
       .num_free_blocks = 0,
       .preempted = {1},
       .slices = {{0, 1}}},
      {.name = "nobody is preempted for a block that is free",
       .running = {Decoding(1, 9), Decoding(2, 8)},
       .num_free_blocks = 1,
       .slices = {{0, 1}, {1, 1}}},
      {.name = "prompts that hold everything make room by the last",
       .running = {Prefilling(1, 20, 8), Prefilling(2, 20, 8)},
       .num_free_blocks = 0,
       .preempted = {1}},
      {.name = "prompts wait while a result in flight will free blocks",
       .running = {Prefilling(1, 20, 8), Exhausted(Decoding(2, 9))},
       .num_free_blocks = 0},
      {.name = "who was preempted for is followed by no admission",
       .running = {Decoding(1, 9), Decoding(2, 40)},
       .waiting = {Waiting(3, 4)},
       .num_free_blocks = 0,
       .preempted = {1},
       .slices = {{0, 1}}},

      // Forced preemption.
      {.name = "forced: the last that has gained a token",
       .running = {GainedTokens(Decoding(1, 8), 2),
                   GainedTokens(Decoding(2, 8), 1)},
       .force_preemption = true,
       .preempted = {1},
       .slices = {{0, 1}}},
      {.name = "forced: nobody who has gained nothing, or it never would",
       .running = {Prefilling(1, 20, 8)},
       .force_preemption = true,
       .slices = {{0, 12}}},

      // Admission.
      {.name = "admission runs a prompt's first chunk",
       .waiting = {Waiting(1, 30), Waiting(2, 80)},
       .admissions = {{0, 30}, {1, 70}}},
      {.name = "no more than there are slots",
       .waiting = {Waiting(1, 3), Waiting(2, 3)},
       .num_free_slots = 1,
       .admissions = {{0, 3}}},
      {.name = "a group takes a slot for each sequence, or none",
       .waiting = {Waiting(1, 3), OfSeqs(Waiting(2, 3), 4)},
       .num_free_slots = 4,
       .admissions = {{0, 3}}},
      {.name = "the whole prompt must fit, though its chunk is small",
       .running = {Decoding(1, 2)},
       .waiting = {Waiting(2, 40)},
       .num_free_blocks = 9,
       .budget = 5,
       .slices = {{0, 1}}},
      {.name = "what running prompts still need is not given away",
       .running = {Prefilling(1, 40, 8)},
       .waiting = {Waiting(2, 12)},
       .num_free_blocks = 10,
       .budget = 12,
       .slices = {{0, 12}}},
      {.name = "the watermark is kept for those that run",
       .running = {Decoding(1, 2)},
       .waiting = {Waiting(2, 8)},
       .num_free_blocks = 3,
       .watermark_blocks = 2,
       .slices = {{0, 1}}},
      {.name = "alone, a group may have everything",
       .waiting = {Waiting(1, 12), Waiting(2, 1)},
       .num_free_blocks = 3,
       .watermark_blocks = 2,
       .admissions = {{0, 12}}},
      {.name = "a manager that reserves wants the room at once",
       .waiting = {Reserving(Waiting(1, 4), 100)},
       .num_free_blocks = 24},
      {.name = "a group whose results are in flight holds the queue",
       .waiting = {NotReady(Preempted(Waiting(1, 4))), Waiting(2, 4)}},

      // Windows.
      {.name = "a prompt is promised no more than it can hold at once",
       .running = {Awaiting(Prefilling(1, 400, 20))},
       .waiting = {Waiting(2, 16), Waiting(3, 4)},
       .num_free_blocks = 8,
       .max_seq_blocks = 9,
       .admissions = {{0, 16}}},
      {.name = "what it has left behind it may take again",
       .running = {Dropped(Awaiting(Prefilling(1, 400, 20)), 3)},
       .waiting = {Waiting(2, 4), Waiting(3, 4)},
       .num_free_blocks = 8,
       .max_seq_blocks = 9,
       .admissions = {{0, 4}}},

      // Bypass.
      {.name = "a head that does not fit is passed by one that does",
       .running = {Decoding(1, 2)},
       .waiting = {Waiting(2, 40), Waiting(3, 60), Waiting(4, 8)},
       .num_free_blocks = 5,
       .slices = {{0, 1}},
       .admissions = {{2, 8}}},
      {.name = "a head is passed a bounded number of times",
       .running = {Decoding(1, 2)},
       .waiting = {Bypassed(Waiting(2, 40), 7), Waiting(3, 4), Waiting(4, 4)},
       .num_free_blocks = 5,
       .slices = {{0, 1}},
       .admissions = {{1, 4}}},
      {.name = "then the pool is kept for it",
       .running = {Decoding(1, 2)},
       .waiting = {Bypassed(Waiting(2, 40), 8), Waiting(3, 4)},
       .num_free_blocks = 5,
       .slices = {{0, 1}}},
      {.name = "nobody passes one that was preempted",
       .running = {Decoding(1, 2)},
       .waiting = {Preempted(Waiting(2, 40)), Waiting(3, 4)},
       .num_free_blocks = 5,
       .slices = {{0, 1}}},
      {.name = "who comes after an admission in the same step is no head",
       .running = {Decoding(1, 2)},
       .waiting = {Waiting(2, 4), Waiting(3, 40), Waiting(4, 4)},
       .num_free_blocks = 5,
       .slices = {{0, 1}},
       .admissions = {{0, 4}}},
  };
}

std::vector<std::pair<int32_t, int32_t>> Pairs(
    const std::vector<ScheduledSlice>& slices) {
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (const auto& slice : slices) {
    pairs.push_back({slice.running_idx, slice.num_tokens});
  }
  return pairs;
}

std::vector<std::pair<int32_t, int32_t>> Pairs(
    const std::vector<Admission>& admissions) {
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (const auto& admission : admissions) {
    pairs.push_back({admission.waiting_idx, admission.num_tokens});
  }
  return pairs;
}

TEST(PagedFcfsTest, DecidesEachSnapshotAsItShould) {
  for (const Snapshot& snapshot : Snapshots()) {
    SCOPED_TRACE(snapshot.name);
    View view;
    view.running = snapshot.running;
    view.waiting = snapshot.waiting;
    view.block_size = kBlockSize;
    view.num_free_blocks = snapshot.num_free_blocks;
    view.watermark_blocks = snapshot.watermark_blocks;
    view.num_free_slots = snapshot.num_free_slots;
    view.max_num_batched_tokens = snapshot.budget;
    view.force_preemption = snapshot.force_preemption;
    view.max_seq_blocks = snapshot.max_seq_blocks;
    Decision decision;
    PagedFcfs().Schedule(view, &decision);
    EXPECT_EQ(decision.preempted, snapshot.preempted);
    EXPECT_EQ(Pairs(decision.slices), Pairs(snapshot.slices));
    EXPECT_EQ(Pairs(decision.admissions), Pairs(snapshot.admissions));
  }
}

TEST(PagedFcfsTest, TheBypassWindowIsBounded) {
  const std::vector<RunningSequence> running = {Decoding(1, 2)};
  std::vector<WaitingGroup> waiting = {Waiting(2, 400), Waiting(3, 400),
                                       Waiting(4, 4)};
  View view;
  view.running = running;
  view.waiting = waiting;
  view.block_size = kBlockSize;
  view.num_free_blocks = 50;
  view.num_free_slots = 10;
  view.max_num_batched_tokens = 100;
  Decision decision;
  PagedFcfs({.max_bypasses = 8, .bypass_window = 1}).Schedule(view, &decision);
  EXPECT_TRUE(decision.admissions.empty());
  decision.Clear();
  PagedFcfs({.max_bypasses = 8, .bypass_window = 2}).Schedule(view, &decision);
  EXPECT_EQ(decision.admissions.size(), 1);
}

}  // namespace
}  // namespace quire
