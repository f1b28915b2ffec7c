// SPDX-License-Identifier: Apache-2.0
//
// A worker's gRPC port: its service, health and reflection.
#ifndef WORKER_SERVICE_WORKER_SERVER_H_
#define WORKER_SERVICE_WORKER_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace quire {

// Thread-safe.
class WorkerServer {
 public:
  // Listens on host:port; port 0 takes a free one. Unavailable if the port is
  // taken or the host is not ours. `service` must live longer.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(
      const std::string& host, int32_t port, grpc::Service* service);
  ~WorkerServer();

  int32_t port() const { return port_; }

  // Health: "liveness" serves from the start; "", "readiness" and
  // "quire.v1.Worker" from now on.
  void SetReady();

  // Refuses new calls, gives running ones `grace`, then cancels them.
  void Shutdown(absl::Duration grace);

 private:
  WorkerServer(std::unique_ptr<grpc::Service> reflection,
               std::unique_ptr<grpc::Server> server, int32_t port);

  const std::unique_ptr<grpc::Service> reflection_;  // outlives the server
  const std::unique_ptr<grpc::Server> server_;
  const int32_t port_;
};

}  // namespace quire

#endif  // WORKER_SERVICE_WORKER_SERVER_H_
