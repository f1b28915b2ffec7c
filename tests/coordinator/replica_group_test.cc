// SPDX-License-Identifier: Apache-2.0
//
// The composition alone: a group that forms over fake workers drives its
// engine, and what it cannot be made of is said. The clock stands still: the
// workers send no heartbeats, and nobody misses them.
#include "coordinator/replica_group.h"

#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/dispatch/fake_worker.h"

namespace quire {
namespace {

class NoListener final : public OutputListener {
 public:
  void OnOutputs(std::vector<SequenceOutput>) override {}
};

class ReplicaGroupTest : public testing::Test {
 protected:
  ReplicaGroupTest() {
    options_.controller.group = 1;
    options_.controller.num_groups = 2;
    options_.launch.block_size = options_.engine.block_size;
  }

  absl::StatusOr<std::unique_ptr<ReplicaGroup>> Create() {
    return ReplicaGroup::Create(options_,
                                {.listener = &listener_,
                                 .registry = &registry_,
                                 .board = &board_,
                                 .clock = &clock_},
                                {});
  }

  SimulatedClock clock_;
  NoListener listener_;
  WorkerRegistry registry_{
      {.num_groups = 2, .world_size = 1}, Epoch(7), &clock_};
  RendezvousBoard board_;
  ReplicaGroup::Options options_;
};

TEST_F(ReplicaGroupTest, AFormedGroupMakesItsEngineReadyWithItsPartOfMemory) {
  FakeWorker worker;
  auto group = Create();
  ASSERT_TRUE(group.ok()) << group.status();
  (*group)->Start();
  WorkerOffer offer;
  offer.address = worker.address();
  offer.instance_id = 5;
  offer.device = "cpu";
  offer.group = 1;
  const auto registration = registry_.Register(offer);
  ASSERT_TRUE(registration.ok() && registration->formed.has_value());
  (*group)->Launch(*registration->formed);
  EXPECT_TRUE((*group)->engine()->AwaitReady(absl::InfiniteFuture()));
  // The fake has memory for 64 blocks; the other group gets half.
  EXPECT_EQ((*group)->engine()->Info().num_blocks, 32);
  EXPECT_EQ(worker.num_allocated_blocks(), 32);
}

TEST_F(ReplicaGroupTest, WhatItCannotBeMadeOfIsSaid) {
  options_.record = "/nonexistent/folder/file";
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kUnavailable);
  options_.record.clear();
  options_.engine.kv_manager = "none";
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ReplicaGroupTest, EndsWithoutEverHavingBegun) {
  const auto group = Create();
  EXPECT_TRUE(group.ok()) << group.status();
}

}  // namespace
}  // namespace quire
