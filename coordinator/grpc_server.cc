// SPDX-License-Identifier: Apache-2.0
#include "coordinator/grpc_server.h"

#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/reflection_service.h"

namespace quire {
namespace {

void EnableHealthOnce() {
  static std::once_flag once;
  std::call_once(once, [] { grpc::EnableDefaultHealthCheckService(true); });
}

void SetLimits(GrpcServer::Audience audience, grpc::ServerBuilder* builder) {
  // Two servers on one port would silently share its clients.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1000);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8 << 10);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // A message is unpacked whole before its size is looked at, and 3 MB of
  // zeros in gzip are 3 GB.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  if (audience == GrpcServer::Audience::kPublic) {
    builder->SetMaxReceiveMessageSize(16 << 20);
    // Clients ping each 10 s or more; faster ones are told too_many_pings.
    builder->AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
    // So that load balancers of connections see new ones (gRPC adds +-10 %).
    builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, 30 * 60 * 1000);
    builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                                60 * 60 * 1000);
  } else {
    builder->SetMaxReceiveMessageSize(64 << 20);
    builder->AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    Audience audience, const std::string& host, int port,
    const std::string& flag, const std::vector<NamedService>& services,
    CallQueues* queues) {
  EnableHealthOnce();
  grpc::ServerBuilder builder;
  SetLimits(audience, &builder);
  int bound_port = 0;
  builder.AddListeningPort(absl::StrCat(host, ":", port),
                           grpc::InsecureServerCredentials(), &bound_port);
  std::vector<std::string> service_names;
  for (const NamedService& named : services) {
    builder.RegisterService(named.service);
    service_names.push_back(named.name);
  }
  auto reflection = MakeReflectionService(service_names);
  builder.RegisterService(reflection.get());
  if (queues != nullptr) queues->AddTo(&builder);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || bound_port == 0) {
    if (queues != nullptr) queues->Close();
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", host, ":", port,
        ": the port is taken, or not for this user; choose another with --",
        flag, ", or 0 for any"));
  }
  return std::unique_ptr<GrpcServer>(
      new GrpcServer(std::move(reflection), std::move(server), bound_port,
                     std::move(service_names), queues));
}

GrpcServer::GrpcServer(std::unique_ptr<grpc::Service> reflection,
                       std::unique_ptr<grpc::Server> server, int port,
                       std::vector<std::string> service_names,
                       CallQueues* queues)
    : reflection_(std::move(reflection)),
      server_(std::move(server)),
      port_(port),
      service_names_(std::move(service_names)),
      queues_(queues) {
  server_->GetHealthCheckService()->SetServingStatus("liveness", true);
  SetReady(false);
}

GrpcServer::~GrpcServer() { Shutdown(absl::ZeroDuration()); }

void GrpcServer::SetReady(bool ready) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  health->SetServingStatus("", ready);
  health->SetServingStatus("readiness", ready);
  for (const std::string& name : service_names_) {
    health->SetServingStatus(name, ready);
  }
}

void GrpcServer::Shutdown(absl::Duration grace) {
  server_->Shutdown(std::chrono::system_clock::now() +
                    absl::ToChronoMilliseconds(grace));
  if (queues_ != nullptr) queues_->Close();
}

}  // namespace quire
