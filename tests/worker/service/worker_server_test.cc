// SPDX-License-Identifier: Apache-2.0
#include "worker/service/worker_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/client_unary_call.h>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/worker.grpc.pb.h"

namespace quire {
namespace {

class NoWorker final : public v1::Worker::Service {};

// Health's answer without its generated code: 1 is SERVING, 2 is not.
int HealthOf(int32_t port, const std::string& service) {
  const auto channel = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                                           grpc::InsecureChannelCredentials());
  std::string request;
  if (!service.empty()) {
    request = absl::StrCat("\n", std::string(1, service.size()), service);
  }
  grpc::Slice slice(request);
  grpc::ByteBuffer send(&slice, 1), received;
  grpc::ClientContext context;
  const grpc::internal::RpcMethod method("/grpc.health.v1.Health/Check",
                                         grpc::internal::RpcMethod::NORMAL_RPC);
  const grpc::Status status =
      grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
          channel.get(), method, &context, send, &received);
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::Slice out;
  EXPECT_TRUE(received.DumpToSingleSlice(&out).ok());
  return out.size() == 2 ? out.begin()[1] : -1;
}

TEST(WorkerServerTest, IsAliveAtOnceAndReadyWhenTold) {
  NoWorker service;
  const auto server = WorkerServer::Start("127.0.0.1", 0, &service);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_GT((*server)->port(), 0);
  EXPECT_EQ(HealthOf((*server)->port(), "liveness"), 1);
  for (const char* name : {"", "readiness", "quire.v1.Worker"}) {
    EXPECT_EQ(HealthOf((*server)->port(), name), 2) << name;
  }
  (*server)->SetReady();
  for (const char* name : {"", "readiness", "quire.v1.Worker"}) {
    EXPECT_EQ(HealthOf((*server)->port(), name), 1) << name;
  }
}

TEST(WorkerServerTest, ATakenPortIsUnavailableWithARemedy) {
  NoWorker service, other;
  const auto server = WorkerServer::Start("127.0.0.1", 0, &service);
  ASSERT_TRUE(server.ok());
  const absl::Status taken =
      WorkerServer::Start("127.0.0.1", (*server)->port(), &other).status();
  EXPECT_TRUE(absl::IsUnavailable(taken));
  EXPECT_NE(taken.message().find("--port=0"), std::string::npos);
}

}  // namespace
}  // namespace quire
