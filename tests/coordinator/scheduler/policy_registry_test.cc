// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/policy_registry.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(PolicyRegistryTest, MakesPagedFcfs) {
  const auto policy = MakeSchedulingPolicy("paged_fcfs");
  ASSERT_TRUE(policy.ok()) << policy.status();
  Decision decision;
  (*policy)->Schedule(View(), &decision);
  EXPECT_TRUE(decision.slices.empty());
}

TEST(PolicyRegistryTest, TheBaselinesPreemptNobody) {
  for (const char* name : {"orca", "static_batch"}) {
    const auto policy = MakeSchedulingPolicy(name);
    ASSERT_TRUE(policy.ok()) << policy.status();
    EXPECT_FALSE((*policy)->preempts());
  }
  EXPECT_TRUE((*MakeSchedulingPolicy("paged_fcfs"))->preempts());
}

TEST(PolicyRegistryTest, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const absl::Status status = MakeSchedulingPolicy("fifo").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "--scheduling_policy=fifo is unknown; known: paged_fcfs, orca, "
            "static_batch");
}

}  // namespace
}  // namespace quire
