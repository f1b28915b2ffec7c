// SPDX-License-Identifier: Apache-2.0
//
// The control port's service over real gRPC, on a free port.
#include "coordinator/cluster/cluster_service.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "coordinator/grpc_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cluster.grpc.pb.h"
#include "tests/coordinator/gateway/fake_engine.h"

namespace quire {
namespace {

using ::testing::ElementsAre;

constexpr Epoch kCoordinator(77);

class ClusterServiceTest : public testing::Test {
 protected:
  ClusterServiceTest() {
    WorkerRegistry::Options options;
    options.world_size = 2;
    registry_ =
        std::make_unique<WorkerRegistry>(options, kCoordinator, &clock_);
    cluster_.clock = &clock_;
    cluster_.registry = registry_.get();
    cluster_.board = &board_;
    cluster_.engines = {&engine_};
    cluster_.model = "tiny";
    cluster_.started = clock_.Now();
    cluster_.on_formed = [this](const FormedGroup& group) {
      formed_.push_back(group);
    };
    cluster_.drain = [this](absl::Time deadline) {
      drain_deadline_ = deadline;
      draining_.Notify();
      return DrainOutcome{3, 1};
    };
    cluster_.is_draining = [this] { return draining_.HasBeenNotified(); };
    service_ = MakeClusterService(&cluster_);
    auto server = GrpcServer::Start(GrpcServer::Audience::kWorkers, "127.0.0.1",
                                    /*port=*/0, "control_port",
                                    {{"quire.v1.Cluster", service_.get()}});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::Cluster::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()),
                            grpc::InsecureChannelCredentials()));
  }

  v1::RegisterResponse Register(uint64_t instance_id) {
    v1::RegisterRequest request;
    request.set_address("host:" + std::to_string(instance_id));
    request.set_instance_id(instance_id);
    request.set_device("cpu");
    v1::RegisterResponse response;
    grpc::ClientContext rpc;
    const grpc::Status status = stub_->Register(&rpc, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  grpc::Status Put(uint64_t epoch, const std::string& key,
                   const std::string& value) {
    v1::PutRendezvousRequest request;
    request.set_group_epoch(epoch);
    request.set_key(key);
    request.set_value(value);
    v1::PutRendezvousResponse response;
    grpc::ClientContext rpc;
    return stub_->PutRendezvous(&rpc, request, &response);
  }

  SimulatedClock clock_;
  std::unique_ptr<WorkerRegistry> registry_;
  RendezvousBoard board_;
  FakeEngine engine_;
  std::vector<FormedGroup> formed_;
  absl::Notification draining_;
  absl::Time drain_deadline_;
  ClusterContext cluster_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Cluster::Stub> stub_;
};

TEST_F(ClusterServiceTest, LastWorkerFormsTheGroup) {
  const v1::RegisterResponse first = Register(10);
  EXPECT_EQ(first.rank(), 0u);
  EXPECT_EQ(first.world_size(), 2u);
  EXPECT_EQ(first.coordinator_epoch(), 77u);
  EXPECT_EQ(first.group_epoch(), 1u);
  EXPECT_EQ(first.heartbeat_period_s(), 0.5);
  EXPECT_EQ(first.heartbeat_timeout_s(), 3);
  EXPECT_TRUE(formed_.empty());
  EXPECT_EQ(Register(11).rank(), 1u);
  ASSERT_EQ(formed_.size(), 1u);
  EXPECT_THAT(formed_[0].addresses, ElementsAre("host:10", "host:11"));
}

TEST_F(ClusterServiceTest, HeartbeatsKeepAWorkerAliveUntilTheEpochEnds) {
  Register(10);
  Register(11);
  grpc::ClientContext rpc;
  auto stream = stub_->Heartbeat(&rpc);
  v1::HeartbeatRequest beat;
  beat.set_instance_id(10);
  beat.set_coordinator_epoch(77);
  beat.set_group_epoch(1);
  beat.set_last_step_id(9);
  v1::HeartbeatResponse response;
  clock_.Advance(absl::Seconds(2));
  ASSERT_TRUE(stream->Write(beat));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(registry_->Groups()[0].ranks[0].heartbeat_age,
            absl::ZeroDuration());
  EXPECT_EQ(registry_->Groups()[0].ranks[0].last_step, StepId(9));
  registry_->EndEpoch(0, Epoch(1), absl::UnavailableError("gone"));
  stream->Write(beat);
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ClusterServiceTest, WorkerMaySayGoodbye) {
  Register(10);
  grpc::ClientContext rpc;
  auto stream = stub_->Heartbeat(&rpc);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ClusterServiceTest, AStreamThatEndsWhileOthersAreAwaitedFreesItsSeat) {
  Register(10);
  grpc::ClientContext rpc;
  auto stream = stub_->Heartbeat(&rpc);
  v1::HeartbeatRequest beat;
  beat.set_instance_id(10);
  beat.set_coordinator_epoch(77);
  beat.set_group_epoch(1);
  v1::HeartbeatResponse response;
  ASSERT_TRUE(stream->Write(beat));
  ASSERT_TRUE(stream->Read(&response));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  // Its clock stands still, so it is not silence.
  EXPECT_TRUE(registry_->Groups()[0].ranks.empty());
  EXPECT_EQ(Register(11).rank(), 0u);
}

TEST_F(ClusterServiceTest, RendezvousWaitsForEveryKey) {
  Register(10);
  ASSERT_TRUE(Put(1, "rank0", "here").ok());
  v1::GetRendezvousRequest request;
  request.set_group_epoch(1);
  request.add_keys("rank1");
  request.add_keys("rank0");
  v1::GetRendezvousResponse response;
  grpc::Status status;
  std::thread get([&] {
    grpc::ClientContext rpc;
    status = stub_->GetRendezvous(&rpc, request, &response);
  });
  ASSERT_TRUE(Put(1, "rank1", "there").ok());
  get.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(response.values(), ElementsAre("there", "here"));
}

TEST_F(ClusterServiceTest, RendezvousEndsWithTheCallersDeadline) {
  Register(10);
  v1::GetRendezvousRequest request;
  request.set_group_epoch(1);
  request.add_keys("never");
  v1::GetRendezvousResponse response;
  grpc::ClientContext rpc;
  rpc.set_deadline(std::chrono::system_clock::now() +
                   std::chrono::milliseconds(20));
  EXPECT_EQ(stub_->GetRendezvous(&rpc, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Put(1, "never", "late").ok());  // finds nobody waiting
}

TEST_F(ClusterServiceTest, OldEpochsHaveNoRendezvous) {
  Register(10);
  EXPECT_EQ(Put(0, "k", "v").error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  v1::GetRendezvousRequest request;
  request.set_group_epoch(2);
  request.add_keys("k");
  v1::GetRendezvousResponse response;
  grpc::ClientContext rpc;
  EXPECT_EQ(stub_->GetRendezvous(&rpc, request, &response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ClusterServiceTest, StatusTellsWhoHasJoinedAndHowFarTheyAre) {
  Register(10);
  v1::StatusResponse joining;
  grpc::ClientContext joining_rpc, ready_rpc;
  ASSERT_TRUE(stub_->Status(&joining_rpc, {}, &joining).ok());
  EXPECT_EQ(joining.groups(0).state(), v1::GROUP_STATE_JOINING);
  EXPECT_EQ(joining.groups(0).detail(),
            "waiting for workers: 1 of 2 ranks have joined");

  Register(11);
  registry_->SetLoadProgress(0, Epoch(1), 1, {"weights", 5, 10});
  registry_->SetState(0, Epoch(1), GroupState::kReady);
  EngineStats stats;
  stats.num_blocks = 100;
  stats.num_free_blocks = 60;
  stats.num_cached_blocks = 40;
  stats.num_finished = 12;
  engine_.SetStats(stats);
  clock_.Advance(absl::Seconds(1));
  v1::StatusResponse ready;
  ASSERT_TRUE(stub_->Status(&ready_rpc, {}, &ready).ok());
  EXPECT_EQ(ready.model(), "tiny");
  EXPECT_EQ(ready.uptime_s(), 1);
  EXPECT_EQ(ready.num_finished_requests(), 12u);
  const v1::Group& group = ready.groups(0);
  EXPECT_EQ(group.state(), v1::GROUP_STATE_READY);
  EXPECT_EQ(group.num_free_blocks() + group.num_cached_blocks(),
            group.num_blocks());
  EXPECT_EQ(group.ranks(1).load_phase(), "weights");
  EXPECT_EQ(group.ranks(1).load_bytes_total(), 10u);
  EXPECT_EQ(group.ranks(1).heartbeat_age_s(), 1);
}

TEST_F(ClusterServiceTest, DrainReturnsWhatWasLeft) {
  v1::DrainRequest request;
  request.set_deadline_s(5);
  v1::DrainResponse response;
  grpc::ClientContext rpc, bad_rpc, status_rpc;
  ASSERT_TRUE(stub_->Drain(&rpc, request, &response).ok());
  EXPECT_EQ(response.num_finished(), 3u);
  EXPECT_EQ(response.num_aborted(), 1u);
  EXPECT_EQ(drain_deadline_, clock_.Now() + absl::Seconds(5));
  v1::StatusResponse status;
  ASSERT_TRUE(stub_->Status(&status_rpc, {}, &status).ok());
  EXPECT_TRUE(status.draining());
  request.set_deadline_s(-1);
  EXPECT_EQ(stub_->Drain(&bad_rpc, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace quire
