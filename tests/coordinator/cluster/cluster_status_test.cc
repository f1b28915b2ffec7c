// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/cluster_status.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/coordinator/gateway/fake_engine.h"

namespace quire {
namespace {

class ClusterStatusTest : public testing::Test {
 protected:
  ClusterStatusTest() {
    cluster_.clock = &clock_;
    cluster_.registry = &registry_;
    cluster_.engines = {&engine_};
    cluster_.version = "1.2";
    cluster_.model = "tiny";
    cluster_.public_address = "here:8001";
    cluster_.started = clock_.Now();
    cluster_.is_draining = [this] { return is_draining_; };
    EngineStats stats;
    stats.num_running = 2;
    stats.num_waiting = 3;
    stats.num_blocks = 100;
    stats.num_free_blocks = 60;
    stats.num_cached_blocks = 30;
    stats.num_finished = 44;
    stats.num_preemptions = 5;
    stats.last_step = StepId(9);
    engine_.SetStats(stats);
  }

  v1::StatusResponse Status() {
    v1::StatusResponse response;
    FillStatus(cluster_, &response);
    return response;
  }
  void Join(uint64_t instance_id) {
    WorkerOffer offer;
    offer.address = "worker:" + std::to_string(instance_id);
    offer.instance_id = instance_id;
    offer.device = "cpu";
    offer.pid = 1000 + instance_id;
    EXPECT_TRUE(registry_.Register(offer).ok());
  }

  SimulatedClock clock_;
  WorkerRegistry registry_{
      {.num_groups = 1, .world_size = 2}, Epoch(7), &clock_};
  FakeEngine engine_;
  bool is_draining_ = false;
  ClusterContext cluster_;
};

TEST_F(ClusterStatusTest, TheClusterAndItsRequestsAreAtAGlance) {
  clock_.Advance(absl::Seconds(12));
  const v1::StatusResponse status = Status();
  EXPECT_EQ(status.version(), "1.2");
  EXPECT_EQ(status.model(), "tiny");
  EXPECT_EQ(status.public_address(), "here:8001");
  EXPECT_EQ(status.coordinator_epoch(), 7u);
  EXPECT_EQ(status.uptime_s(), 12);
  EXPECT_EQ(status.num_running_requests(), 2u);
  EXPECT_EQ(status.num_waiting_requests(), 3u);
  EXPECT_EQ(status.num_finished_requests(), 44u);
  EXPECT_EQ(status.num_preemptions(), 5u);
}

TEST_F(ClusterStatusTest, OnlyAReadyGroupHasBlocks) {
  Join(1);
  Join(2);
  EXPECT_EQ(Status().groups(0).num_blocks(), 0u);
  registry_.SetState(0, Epoch(1), GroupState::kReady);
  const v1::Group group = Status().groups(0);
  EXPECT_EQ(group.state(), v1::GROUP_STATE_READY);
  EXPECT_EQ(group.group_epoch(), 1u);
  EXPECT_EQ(group.num_blocks(), 100u);
  EXPECT_EQ(group.num_free_blocks(), 60u);
  EXPECT_EQ(group.num_cached_blocks(), 30u);
  EXPECT_EQ(group.last_step_id(), 9u);
}

TEST_F(ClusterStatusTest, EachGroupHasItsOwnEnginesNumbers) {
  WorkerRegistry registry({.num_groups = 2, .world_size = 1}, Epoch(7),
                          &clock_);
  FakeEngine other;
  EngineStats stats;
  stats.num_running = 10;
  stats.num_waiting = 20;
  stats.num_finished = 6;
  stats.num_blocks = 50;
  other.SetStats(stats);
  cluster_.registry = &registry;
  cluster_.engines = {&engine_, &other};
  registry.SetState(1, Epoch(1), GroupState::kReady);
  const v1::StatusResponse status = Status();
  EXPECT_EQ(status.num_running_requests(), 12u);
  EXPECT_EQ(status.num_waiting_requests(), 23u);
  EXPECT_EQ(status.num_finished_requests(), 50u);
  ASSERT_EQ(status.groups_size(), 2);
  EXPECT_EQ(status.groups(0).num_waiting_requests(), 3u);
  EXPECT_EQ(status.groups(0).num_blocks(), 0u);  // not ready
  EXPECT_EQ(status.groups(1).num_running_requests(), 10u);
  EXPECT_EQ(status.groups(1).num_waiting_requests(), 20u);
  EXPECT_EQ(status.groups(1).num_blocks(), 50u);
}

TEST_F(ClusterStatusTest, DrainingIsSaidOfReadyGroupsOnly) {
  is_draining_ = true;
  Join(1);
  EXPECT_EQ(Status().groups(0).state(), v1::GROUP_STATE_JOINING);
  EXPECT_TRUE(Status().draining());
  Join(2);
  registry_.SetState(0, Epoch(1), GroupState::kReady);
  EXPECT_EQ(Status().groups(0).state(), v1::GROUP_STATE_DRAINING);
}

TEST_F(ClusterStatusTest, RanksSayWhereTheyAreAndHowFarTheyAre) {
  Join(1);
  Join(2);
  registry_.SetLoadProgress(0, Epoch(1), 1, {"weights", 30, 90});
  EXPECT_TRUE(registry_.Heartbeat(2, Epoch(7), Epoch(1), StepId(8)).ok());
  clock_.Advance(absl::Milliseconds(500));
  const v1::Rank rank = Status().groups(0).ranks(1);
  EXPECT_EQ(rank.rank(), 1u);
  EXPECT_EQ(rank.address(), "worker:2");
  EXPECT_EQ(rank.device(), "cpu");
  EXPECT_EQ(rank.pid(), 1002u);
  EXPECT_EQ(rank.heartbeat_age_s(), 0.5);
  EXPECT_EQ(rank.load_phase(), "weights");
  EXPECT_EQ(rank.load_bytes_done(), 30u);
  EXPECT_EQ(rank.load_bytes_total(), 90u);
  EXPECT_EQ(rank.last_step_id(), 8u);
  EXPECT_TRUE(rank.collective().empty());
}

TEST_F(ClusterStatusTest, RanksSayHowTheyReachEachOther) {
  Join(1);
  Join(2);
  registry_.SetLinks(0, Epoch(1), 1,
                     {"peer", {"NVLink", ""}, {{8192, 2.5}, {65536, 2.75}}});
  registry_.SetLinks(0, Epoch(2), 0, {"nccl", {}, {}});  // no such epoch
  EXPECT_TRUE(Status().groups(0).ranks(0).collective().empty());
  const v1::Rank rank = Status().groups(0).ranks(1);
  EXPECT_EQ(rank.collective(), "peer");
  ASSERT_EQ(rank.links_size(), 2);
  EXPECT_EQ(rank.links(0), "NVLink");
  ASSERT_EQ(rank.all_reduce_bytes_size(), 2);
  EXPECT_EQ(rank.all_reduce_bytes(1), 65536u);
  EXPECT_EQ(rank.all_reduce_us(1), 2.75);
}

}  // namespace
}  // namespace quire
