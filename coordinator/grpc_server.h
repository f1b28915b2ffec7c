// SPDX-License-Identifier: Apache-2.0
//
// A gRPC server as Quire runs it on each of its ports: with health, reflection
// and limits that a client cannot lift.
#ifndef COORDINATOR_GRPC_SERVER_H_
#define COORDINATOR_GRPC_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/gateway/call_queues.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace quire {

// Thread-safe.
class GrpcServer {
 public:
  enum class Audience {
    kPublic,   // anyone: 16 MiB messages, connections are renewed
    kWorkers,  // our own processes: 64 MiB, connections stay
  };

  struct NamedService {
    std::string name;  // its full name, for Health
    grpc::Service* service = nullptr;
  };

  // Listens on `host`:`port` (0 takes a free one); `services` are borrowed and
  // outlive the server, and so do `queues`, which are added to it and closed
  // when it shuts down. Unavailable when the port is taken; `flag` is named in
  // the remedy.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      Audience audience, const std::string& host, int port,
      const std::string& flag, const std::vector<NamedService>& services,
      CallQueues* queues = nullptr);
  // Shutdown() without grace.
  ~GrpcServer();

  // What Health/Check answers for "", "readiness" and each service; "liveness"
  // is always serving.
  void SetReady(bool ready);

  // Refuses new calls, gives running ones `grace`, cancels the rest and waits
  // for them. May be called again.
  void Shutdown(absl::Duration grace);

  int port() const { return port_; }

 private:
  GrpcServer(std::unique_ptr<grpc::Service> reflection,
             std::unique_ptr<grpc::Server> server, int port,
             std::vector<std::string> service_names, CallQueues* queues);

  const std::unique_ptr<grpc::Service> reflection_;  // outlives the server
  std::unique_ptr<grpc::Server> server_;
  const int port_;
  const std::vector<std::string> service_names_;
  CallQueues* const queues_;  // may be null
};

}  // namespace quire

#endif  // COORDINATOR_GRPC_SERVER_H_
