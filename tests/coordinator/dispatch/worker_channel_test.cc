// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/worker_channel.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/worker.grpc.pb.h"

namespace quire {
namespace {

// Answers Load with its model path, and notes who called.
class EchoWorker final : public v1::Worker::Service {
 public:
  EchoWorker() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  ~EchoWorker() override { server_->Shutdown(); }

  grpc::Status Load(grpc::ServerContext* context,
                    const v1::LoadRequest* request,
                    grpc::ServerWriter<v1::LoadProgress>* writer) override {
    last_peer_ = context->peer();
    v1::LoadProgress progress;
    progress.set_phase(request->model_path());
    writer->Write(progress);
    return grpc::Status::OK;
  }

  const std::string& address() const { return address_; }
  const std::string& last_peer() const { return last_peer_; }

 private:
  std::string address_;
  std::string last_peer_;
  std::unique_ptr<grpc::Server> server_;
};

// What a worker says to `text`, and how its call ended.
grpc::Status Echo(const std::shared_ptr<grpc::Channel>& channel,
                  const std::string& text, std::string* answer) {
  const auto stub = v1::Worker::NewStub(channel);
  grpc::ClientContext context;
  v1::LoadRequest request;
  request.set_model_path(text);
  const auto reader = stub->Load(&context, request);
  v1::LoadProgress progress;
  while (reader->Read(&progress)) *answer = progress.phase();
  return reader->Finish();
}

TEST(WorkerChannelTest, MessagesBeyondTheLibrarysLimitPassBothWays) {
  EchoWorker worker;
  const std::string text(40 << 20, 'x');
  std::string answer;
  const grpc::Status status =
      Echo(MakeWorkerChannel(worker.address()), text, &answer);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(answer == text) << answer.size();
}

TEST(WorkerChannelTest, MessagesBeyondOurLimitAreRefused) {
  EchoWorker worker;
  std::string answer;
  const grpc::Status status = Echo(MakeWorkerChannel(worker.address()),
                                   std::string(65 << 20, 'x'), &answer);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(answer, "");
}

TEST(WorkerChannelTest, ChannelsShareNoConnection) {
  EchoWorker worker;
  const auto first = MakeWorkerChannel(worker.address());
  const auto second = MakeWorkerChannel(worker.address());
  std::string answer;
  ASSERT_TRUE(Echo(first, "a", &answer).ok());
  const std::string first_peer = worker.last_peer();
  ASSERT_TRUE(Echo(second, "b", &answer).ok());
  EXPECT_NE(worker.last_peer(), first_peer);
  ASSERT_TRUE(Echo(first, "c", &answer).ok());
  EXPECT_EQ(worker.last_peer(), first_peer);
}

}  // namespace
}  // namespace quire
