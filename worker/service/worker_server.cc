// SPDX-License-Identifier: Apache-2.0
#include "worker/service/worker_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/wire/reflection_service.h"

namespace quire {
namespace {

constexpr char kServiceName[] = "quire.v1.Worker";
constexpr const char* kReadinessNames[] = {"", "readiness", kServiceName};

// Process-wide; must be asked for before the first server is built.
void EnableHealth() {
  static std::once_flag once;
  std::call_once(once, [] { grpc::EnableDefaultHealthCheckService(true); });
}

void SetArguments(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(64 << 20);
  builder->SetMaxSendMessageSize(64 << 20);
  // Two processes on one port would each get some of the connections.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The coordinator pings every 2 to 10 s and must not be sent away for it.
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const std::string& host, int32_t port, grpc::Service* service) {
  EnableHealth();
  grpc::ServerBuilder builder;
  SetArguments(&builder);
  int bound_port = 0;
  const std::string address = absl::StrCat(host, ":", port);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(),
                           &bound_port);
  builder.RegisterService(service);
  auto reflection = MakeReflectionService({kServiceName});
  builder.RegisterService(reflection.get());
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || bound_port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "cannot listen on ", address,
        ": the port is taken, or not for this user; choose another with "
        "--port (--port=0 takes a free one)"));
  }
  auto worker_server = absl::WrapUnique(
      new WorkerServer(std::move(reflection), std::move(server), bound_port));
  grpc::HealthCheckServiceInterface* health =
      worker_server->server_->GetHealthCheckService();
  for (const char* name : kReadinessNames) {
    health->SetServingStatus(name, false);
  }
  health->SetServingStatus("liveness", true);
  return worker_server;
}

WorkerServer::WorkerServer(std::unique_ptr<grpc::Service> reflection,
                           std::unique_ptr<grpc::Server> server, int32_t port)
    : reflection_(std::move(reflection)),
      server_(std::move(server)),
      port_(port) {}

WorkerServer::~WorkerServer() { Shutdown(absl::ZeroDuration()); }

void WorkerServer::SetReady() {
  for (const char* name : kReadinessNames) {
    server_->GetHealthCheckService()->SetServingStatus(name, true);
  }
}

void WorkerServer::Shutdown(absl::Duration grace) {
  server_->Shutdown(std::chrono::system_clock::now() +
                    absl::ToChronoMilliseconds(grace));
}

}  // namespace quire
