// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/waiting_room.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

absl::Time At(int64_t ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

class WaitingRoomTest : public testing::Test {
 protected:
  // A group of `tenant` that has just come and waits.
  SequenceGroup* Add(const std::string& tenant, int32_t priority = 0) {
    auto& group = groups_.emplace_back(std::make_unique<SequenceGroup>());
    group->arrival = static_cast<int64_t>(groups_.size());
    group->key = RequestKey(groups_.size());
    group->request_id = "r" + std::to_string(groups_.size());
    group->priority = priority;
    group->arrival_time = At(0);
    group->sequences.resize(1);
    group->sequences[0].num_prompt_tokens = 100;
    room_->Register(group.get(), tenant, /*has_workers=*/true, At(0));
    room_->Insert(*group, {.num_tokens = 10, .num_wanted_blocks = 1});
    return group.get();
  }

  // As if the policy had decided this about what it sees now.
  void Decide(const Decision& decision, absl::Time now,
              const std::vector<RunningSequence>& running = {}) {
    View view;
    room_->FillView(running, now, &view);
    room_->TakeDecision(view, decision, now);
  }

  // The step computes tokens [begin, end) of the group's prompt.
  void Admit(const SequenceGroup& group, int32_t begin, int32_t end) {
    room_->Erase(group);
    room_->Admit(group, end, end - begin, At(0));
  }
  RunningSequence Running(const SequenceGroup& group, int32_t num_computed) {
    RunningSequence seq;
    seq.arrival = group.arrival;
    seq.rank = group.rank;
    seq.tenant_idx = group.tenant_idx;
    seq.num_computed_tokens = num_computed;
    seq.num_tokens = seq.num_prefill_tokens = 100;
    return seq;
  }
  // Prompt tokens that the tenant was charged.
  int64_t Charged(const std::string& tenant) const {
    EngineMetrics metrics;
    room_->FillMetrics(&metrics);
    for (const TenantServed& served : metrics.tenants) {
      if (served.label == tenant) return served.num_prompt_tokens;
    }
    return 0;
  }
  WaitReason ReasonOf(const SequenceGroup& group, absl::Time now) const {
    const auto timeline = room_->timelines().Find(group.request_id, now);
    EXPECT_TRUE(timeline.ok()) << timeline.status();
    return timeline->intervals.back().why.reason;
  }

  TenantConfig config_;
  std::unique_ptr<WaitingRoom> room_ = std::make_unique<WaitingRoom>(
      config_, absl::ZeroDuration(), /*by_tenant=*/true);
  std::vector<std::unique_ptr<SequenceGroup>> groups_;
};

TEST_F(WaitingRoomTest, PriorityIsTheRequestsPlusItsTenants) {
  config_.tenants["vip"].priority = -5;
  room_ = std::make_unique<WaitingRoom>(config_, absl::ZeroDuration(), true);
  EXPECT_EQ(Add("vip", 2)->priority, -3);
  EXPECT_EQ(Add("vip", INT32_MIN)->priority, INT32_MIN);  // it does not wrap
  EXPECT_EQ(Add("other", 2)->priority, 2);
}

TEST_F(WaitingRoomTest, AdmissionsAreKnownByTheirKeyOnceDecided) {
  Add("a");
  SequenceGroup* second = Add("a");
  Decision decision;
  decision.admissions = {{.waiting_idx = 1, .num_tokens = 4}};
  Decide(decision, At(1));
  EXPECT_EQ(room_->admission_key(0), second->key);
}

TEST_F(WaitingRoomTest, WhoWasNotLookedAtIsBehind) {
  SequenceGroup* head = Add("a");
  SequenceGroup* next = Add("a");
  Decision decision;
  decision.blocked = {
      {.waiting_idx = 0, .why = {.reason = WaitReason::kNeedsBlocks}}};
  Decide(decision, At(1));
  EXPECT_EQ(ReasonOf(*head, At(2)), WaitReason::kNeedsBlocks);
  EXPECT_EQ(ReasonOf(*next, At(2)), WaitReason::kBehind);
  EXPECT_EQ(room_->timelines()
                .Find(next->request_id, At(2))
                ->intervals.back()
                .why.num_needed,
            1);
}

TEST_F(WaitingRoomTest, WhatWasComputedBeforeALossIsNotChargedAgain) {
  SequenceGroup* group = Add("a");
  Admit(*group, 0, 30);
  EXPECT_EQ(Charged("a"), 30);
  const RunningSequence running = Running(*group, 30);
  room_->Interrupt({&running, 1}, WaitReason::kNoWorkerGroup, At(5));
  EXPECT_EQ(ReasonOf(*group, At(6)), WaitReason::kNoWorkerGroup);
  room_->Insert(*group, {.preempted = true});
  Admit(*group, 0, 20);
  EXPECT_EQ(Charged("a"), 30);
  // The rest in a chunk of which ten tokens are new.
  Decision decision;
  decision.slices = {{.running_idx = 0, .num_tokens = 20}};
  Decide(decision, At(7), {Running(*group, 20)});
  EXPECT_EQ(Charged("a"), 40);
}

TEST_F(WaitingRoomTest, AComebackPaysForWhatItHadNotComputed) {
  SequenceGroup* group = Add("a");
  Admit(*group, 0, 30);
  Decision decision;
  decision.preempted = {0};
  Decide(decision, At(1), {Running(*group, 30)});
  room_->Preempt(*group, decision, 0, At(1));
  room_->Insert(*group, {.preempted = true});
  Admit(*group, 16, 50);  // two blocks of it were still there
  EXPECT_EQ(Charged("a"), 50);
}

TEST_F(WaitingRoomTest, WhatComesBackWithOutputsPaysForTheNextAsAnOutput) {
  SequenceGroup* group = Add("a");
  Admit(*group, 0, 100);
  Decision decision;
  decision.preempted = {0};
  Decide(decision, At(1), {Running(*group, 104)});  // four outputs are computed
  room_->Preempt(*group, decision, 0, At(1));
  room_->Insert(*group, {.preempted = true});
  Admit(*group, 0, 105);
  EXPECT_EQ(Charged("a"), 100);
  EngineMetrics metrics;
  room_->FillMetrics(&metrics);
  EXPECT_EQ(metrics.tenants.back().num_output_tokens, 1);
}

TEST_F(WaitingRoomTest, SiblingsAreInterruptedOnce) {
  SequenceGroup* group = Add("a");
  Admit(*group, 0, 10);
  const std::vector<RunningSequence> running = {Running(*group, 10),
                                                Running(*group, 12)};
  room_->Interrupt(running, WaitReason::kResync, At(5));
  EXPECT_EQ(room_->timelines().Find(group->request_id, At(6))->num_preemptions,
            1);
}

}  // namespace
}  // namespace quire
