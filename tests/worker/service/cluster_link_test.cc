// SPDX-License-Identifier: Apache-2.0
#include "worker/service/cluster_link.h"

#include <grpcpp/grpcpp.h>

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "proto/cluster.grpc.pb.h"
#include "tests/worker/service/silent_proxy.h"

namespace quire {
namespace {

// A coordinator that seats everybody on rank 1 of 2.
class FakeCluster final : public v1::Cluster::Service {
 public:
  grpc::Status Register(grpc::ServerContext*,
                        const v1::RegisterRequest* request,
                        v1::RegisterResponse* response) override {
    if (request->device() != "cpu") {
      return {grpc::StatusCode::INVALID_ARGUMENT, "device=cuda: want cpu"};
    }
    response->set_rank(1);
    response->set_world_size(2);
    response->set_coordinator_epoch(7);
    response->set_group_epoch(3);
    response->set_heartbeat_period_s(heartbeat_period_s_);
    response->set_heartbeat_timeout_s(heartbeat_timeout_s_);
    return grpc::Status::OK;
  }

  grpc::Status Heartbeat(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::HeartbeatResponse, v1::HeartbeatRequest>*
          stream) override {
    v1::HeartbeatRequest beat;
    for (int i = 0; i < 3 && stream->Read(&beat); ++i) {
      absl::MutexLock lock(&mutex_);
      ++num_beats_;
      last_beat_ = beat;
    }
    end_.WaitForNotification();
    return {grpc::StatusCode::FAILED_PRECONDITION, "the epoch is over"};
  }

  grpc::Status PutRendezvous(grpc::ServerContext*,
                             const v1::PutRendezvousRequest* request,
                             v1::PutRendezvousResponse*) override {
    absl::MutexLock lock(&mutex_);
    board_[absl::StrCat(request->group_epoch(), "/", request->key())] =
        request->value();
    return grpc::Status::OK;
  }

  grpc::Status GetRendezvous(grpc::ServerContext*,
                             const v1::GetRendezvousRequest* request,
                             v1::GetRendezvousResponse* response) override {
    absl::MutexLock lock(&mutex_);
    for (const std::string& key : request->keys()) {
      response->add_values(
          board_[absl::StrCat(request->group_epoch(), "/", key)]);
    }
    return grpc::Status::OK;
  }

  v1::HeartbeatRequest AwaitBeats(int count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return num_beats_ >= count;
    };
    mutex_.Await(absl::Condition(&enough));
    return last_beat_;
  }

  void EndEpoch() { end_.Notify(); }

  // Before anybody joins.
  void set_heartbeat_period_s(double s) { heartbeat_period_s_ = s; }
  void set_heartbeat_timeout_s(double s) { heartbeat_timeout_s_ = s; }

 private:
  absl::Mutex mutex_;
  int num_beats_ ABSL_GUARDED_BY(mutex_) = 0;
  v1::HeartbeatRequest last_beat_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> board_ ABSL_GUARDED_BY(mutex_);
  absl::Notification end_;
  double heartbeat_period_s_ = 0.001;
  double heartbeat_timeout_s_ = 0;
};

class ClusterLinkTest : public testing::Test {
 protected:
  ClusterLinkTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(&cluster_);
    server_ = builder.BuildAndStart();
    options_.coordinator = absl::StrCat("127.0.0.1:", port);
    options_.address = "127.0.0.1:1234";
    options_.instance_id = 99;
    options_.device = "cpu";
  }

  absl::StatusOr<std::unique_ptr<ClusterLink>> Join() {
    return ClusterLink::Join(
        options_, [] { return StepId(41); },
        [this](const absl::Status& cause) {
          cause_ = cause;
          lost_.Notify();
        });
  }

  FakeCluster cluster_;
  std::unique_ptr<grpc::Server> server_;
  ClusterLinkOptions options_;
  absl::Status cause_;
  absl::Notification lost_;
};

TEST_F(ClusterLinkTest, JoiningGivesASeatAndStartsTheHeartbeat) {
  auto link = Join();
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_EQ((*link)->membership().rank, 1);
  EXPECT_EQ((*link)->membership().world_size, 2);
  EXPECT_EQ((*link)->membership().coordinator_epoch, Epoch(7));
  EXPECT_EQ((*link)->membership().heartbeat_period, absl::Milliseconds(1));
  const v1::HeartbeatRequest beat = cluster_.AwaitBeats(3);
  EXPECT_EQ(beat.instance_id(), 99u);
  EXPECT_EQ(beat.group_epoch(), 3u);
  EXPECT_EQ(beat.last_step_id(), 41u);
  cluster_.EndEpoch();
  lost_.WaitForNotification();
  EXPECT_EQ(cause_.code(), absl::StatusCode::kFailedPrecondition) << cause_;
}

TEST_F(ClusterLinkTest, ACoordinatorThatAsksForNoPeriodHearsTwoBeatsASecond) {
  cluster_.set_heartbeat_period_s(0);
  auto link = Join();
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_EQ((*link)->membership().heartbeat_period, absl::Milliseconds(500));
  cluster_.EndEpoch();
}

TEST_F(ClusterLinkTest, ACoordinatorSaysHowMuchOfItsSilenceToBear) {
  for (const auto& [told, borne] : {std::pair(20.0, 20), {1.0, 3}, {0.0, 3}}) {
    cluster_.set_heartbeat_timeout_s(told);
    auto link = Join();
    ASSERT_TRUE(link.ok()) << link.status();
    EXPECT_EQ((*link)->membership().heartbeat_timeout, absl::Seconds(borne));
  }
  cluster_.EndEpoch();
}

// Such as behind a cable that is pulled: nothing is ever said of its end.
TEST_F(ClusterLinkTest, ACoordinatorThatFallsSilentIsLost) {
  SilentProxy proxy(options_.coordinator);
  options_.coordinator = proxy.address();
  auto link = Join();
  ASSERT_TRUE(link.ok()) << link.status();
  cluster_.AwaitBeats(3);
  proxy.FallSilent();
  lost_.WaitForNotification();
  EXPECT_EQ(cause_.code(), absl::StatusCode::kUnavailable) << cause_;
  cluster_.EndEpoch();
}

TEST_F(ClusterLinkTest, ADyingCoordinatorIsNoticed) {
  auto link = Join();
  ASSERT_TRUE(link.ok()) << link.status();
  cluster_.AwaitBeats(3);
  cluster_.EndEpoch();
  server_->Shutdown(std::chrono::system_clock::now());
  lost_.WaitForNotification();
  EXPECT_FALSE(cause_.ok());
}

TEST_F(ClusterLinkTest, TheBoardIsTheGroupsOwn) {
  auto link = Join();
  ASSERT_TRUE(link.ok()) << link.status();
  KeyBoard* board = (*link)->board();
  ASSERT_TRUE(board->Put("a", std::string("\0\1", 2)).ok());
  ASSERT_TRUE(board->Put("b", "B").ok());
  const auto values = board->Get({"b", "a"}, absl::Seconds(60));
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ((*values)[0], "B");
  EXPECT_EQ((*values)[1], std::string("\0\1", 2));
  cluster_.AwaitBeats(3);
  cluster_.EndEpoch();
}

TEST_F(ClusterLinkTest, ARefusalIsPassedOn) {
  options_.device = "cuda";
  const auto link = Join();
  EXPECT_EQ(link.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(link.status().message().find("want cpu"), std::string::npos);
}

TEST_F(ClusterLinkTest, NobodyThereSaysWhatToDo) {
  options_.coordinator = "127.0.0.1:1";
  options_.join_timeout = absl::Milliseconds(100);
  const auto link = Join();
  EXPECT_EQ(link.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(link.status().message().find("--coordinator=host:port"),
            std::string::npos)
      << link.status();
}

}  // namespace
}  // namespace quire
