// SPDX-License-Identifier: Apache-2.0
//
// A worker that gets no seat, while a Run stream is open to it and it holds a
// Load call: both end before what serves them goes, which AddressSanitizer
// would see.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/worker.grpc.pb.h"
#include "worker/service/worker_process.h"

namespace quire {
namespace {

// Two Run streams to one worker, which takes one and refuses the other.
class TwoStreams {
 public:
  explicit TwoStreams(const std::string& address)
      : stub_(v1::Worker::NewStub(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
    for (Stream& stream : streams_) stream.Start(stub_.get(), this);
  }
  ~TwoStreams() { AwaitEnds(2); }

  // Waits until so many of them have ended.
  void AwaitEnds(int num_ends) {
    const auto enough = [this, num_ends]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                            mutex_) { return num_ends_ >= num_ends; };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&enough));
  }

 private:
  class Stream final
      : public grpc::ClientBidiReactor<v1::StepPlan, v1::StepResult> {
   public:
    void Start(v1::Worker::Stub* stub, TwoStreams* owner) {
      owner_ = owner;
      stub->async()->Run(&context_, this);
      StartCall();
    }
    void OnDone(const grpc::Status&) override {
      absl::MutexLock lock(&owner_->mutex_);
      ++owner_->num_ends_;
    }

   private:
    TwoStreams* owner_ = nullptr;
    grpc::ClientContext context_;
  };

  const std::unique_ptr<v1::Worker::Stub> stub_;
  absl::Mutex mutex_;
  int num_ends_ ABSL_GUARDED_BY(mutex_) = 0;
  Stream streams_[2];
};

// A Load call, for which the worker would wait for a seat.
class HeldLoad final : public grpc::ClientReadReactor<v1::LoadProgress> {
 public:
  explicit HeldLoad(const std::string& address)
      : stub_(v1::Worker::NewStub(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
    stub_->async()->Load(&context_, &request_, this);
    StartCall();
  }
  ~HeldLoad() override { AwaitEnd(); }

  grpc::Status AwaitEnd() {
    end_.WaitForNotification();
    return status_;
  }

 private:
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    end_.Notify();
  }

  const std::unique_ptr<v1::Worker::Stub> stub_;
  const v1::LoadRequest request_;
  grpc::ClientContext context_;
  grpc::Status status_;
  absl::Notification end_;
};

// Commands who registers before it says that there is no seat.
class HastyCluster final : public v1::Cluster::Service {
 public:
  grpc::Status Register(grpc::ServerContext*,
                        const v1::RegisterRequest* request,
                        v1::RegisterResponse*) override {
    streams_ = std::make_unique<TwoStreams>(request->address());
    streams_->AwaitEnds(1);
    load_ = std::make_unique<HeldLoad>(request->address());
    return {grpc::StatusCode::FAILED_PRECONDITION, "all seats are taken"};
  }

  HeldLoad* load() { return load_.get(); }

 private:
  std::unique_ptr<TwoStreams> streams_;
  std::unique_ptr<HeldLoad> load_;
};

TEST(RefusedWorkerTest, EndsItsCallsBeforeWhatServesThem) {
  BlockWorkerSignals();
  HastyCluster cluster;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&cluster);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  WorkerProcessOptions options;
  options.link.coordinator = absl::StrCat("127.0.0.1:", port);
  options.link.instance_id = 1;
  options.link.device = "cpu";
  GroupEnd group_end;
  const absl::StatusOr<int> exit_status =
      RunWorker(options, /*loader=*/nullptr, &group_end);
  EXPECT_EQ(exit_status.status().code(), absl::StatusCode::kFailedPrecondition)
      << exit_status.status();
  EXPECT_FALSE(cluster.load()->AwaitEnd().ok());
}

}  // namespace
}  // namespace quire
