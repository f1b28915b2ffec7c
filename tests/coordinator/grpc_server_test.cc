// SPDX-License-Identifier: Apache-2.0
#include "coordinator/grpc_server.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>

#include <string>

#include "absl/synchronization/notification.h"
#include "coordinator/gateway/call_queues.h"
#include "coordinator/gateway/output_router.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

std::shared_ptr<grpc::Channel> ChannelTo(const GrpcServer& server) {
  return grpc::CreateChannel("127.0.0.1:" + std::to_string(server.port()),
                             grpc::InsecureChannelCredentials());
}

// Calls a unary method with `request` as its encoded message.
grpc::Status Call(const GrpcServer& server, const std::string& method,
                  const std::string& request, std::string* response,
                  grpc_compression_algorithm algorithm = GRPC_COMPRESS_NONE) {
  grpc::GenericStub stub(ChannelTo(server));
  grpc::Slice slice(request);
  grpc::ByteBuffer request_bytes(&slice, 1), response_bytes;
  grpc::ClientContext rpc;
  rpc.set_compression_algorithm(algorithm);
  grpc::Status status;
  absl::Notification done;
  stub.UnaryCall(&rpc, method, {}, &request_bytes, &response_bytes,
                 [&](grpc::Status result) {
                   status = std::move(result);
                   done.Notify();
                 });
  done.WaitForNotification();
  if (status.ok()) {
    grpc::Slice whole;
    EXPECT_TRUE(response_bytes.DumpToSingleSlice(&whole).ok());
    response->assign(whole.begin(), whole.end());
  }
  return status;
}

// HealthCheckRequest.service and HealthCheckResponse.status are both field 1.
std::string Health(const GrpcServer& server, const std::string& service) {
  std::string request = "\x0a" + std::string(1, char(service.size())) + service;
  std::string response;
  const grpc::Status status =
      Call(server, "/grpc.health.v1.Health/Check", request, &response);
  if (!status.ok()) return "error";
  if (response == std::string("\x08\x01", 2)) return "serving";
  if (response == std::string("\x08\x02", 2)) return "not serving";
  return "odd";
}

std::unique_ptr<GrpcServer> StartServer(int port = 0) {
  auto server = GrpcServer::Start(GrpcServer::Audience::kPublic, "127.0.0.1",
                                  port, "port", {});
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(GrpcServerTest, HealthFollowsReadinessButLivenessDoesNot) {
  const auto server = StartServer();
  for (const std::string service : {"", "readiness"}) {
    server->SetReady(false);
    EXPECT_EQ(Health(*server, service), "not serving");
    EXPECT_EQ(Health(*server, "liveness"), "serving");
    server->SetReady(true);
    EXPECT_EQ(Health(*server, service), "serving");
  }
  EXPECT_EQ(Health(*server, "nobody"), "error");
}

TEST(GrpcServerTest, TakenPortNamesTheFlag) {
  const auto first = StartServer();
  auto second = GrpcServer::Start(GrpcServer::Audience::kPublic, "127.0.0.1",
                                  first->port(), "port", {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              testing::AllOf(testing::HasSubstr("is taken"),
                             testing::HasSubstr("--port")));
}

// A few bytes of it may unpack to more than the memory holds.
TEST(GrpcServerTest, CompressedMessagesAreRefused) {
  const auto server = StartServer();
  for (const auto algorithm : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    std::string response;
    EXPECT_EQ(Call(*server, "/grpc.health.v1.Health/Check", "\x0a\x08liveness",
                   &response, algorithm)
                  .error_code(),
              grpc::StatusCode::UNIMPLEMENTED);
  }
}

TEST(GrpcServerTest, QueuesCloseWithTheServerOrIfItDoesNotStart) {
  for (const bool starts : {true, false}) {
    const auto first = StartServer();
    CallQueues queues(/*num_lanes=*/2, /*num_arrival_threads=*/2);
    OutputRouter router(queues.gates());
    auto server =
        GrpcServer::Start(GrpcServer::Audience::kPublic, "127.0.0.1",
                          starts ? 0 : first->port(), "port", {}, &queues);
    EXPECT_EQ(server.ok(), starts) << server.status();
    // Queues that are left open, or a router that does, end the test.
  }
}

TEST(GrpcServerTest, ReflectionIsThere) {
  const auto server = StartServer();
  std::string response;
  // A unary call of the streaming method: refused for what it is, which an
  // unknown method would not be.
  const grpc::Status status = Call(
      *server, "/grpc.reflection.v1alpha.ServerReflection/None", "", &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  const grpc::Status listed = Call(
      *server, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      "\x3a\x01*", &response);
  EXPECT_TRUE(listed.ok()) << listed.error_message();
  EXPECT_THAT(response, testing::HasSubstr("grpc.health.v1.Health"));
}

}  // namespace
}  // namespace quire
