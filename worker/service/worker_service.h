// SPDX-License-Identifier: Apache-2.0
//
// The gRPC edge of a worker: proto to plain data and back, nothing else.
#ifndef WORKER_SERVICE_WORKER_SERVICE_H_
#define WORKER_SERVICE_WORKER_SERVICE_H_

#include <functional>
#include <memory>

#include "worker/service/worker_core.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace quire {

// quire.v1.Worker over `core`, which must live until the server is shut down
// and `core` stopped. `on_ready` is called when steps may come, on the
// executor's thread. One Run stream may be open at a time; it reads at most
// four plans ahead of their results, which it keeps and reuses.
std::unique_ptr<grpc::Service> MakeWorkerService(
    WorkerCore* core, std::function<void()> on_ready);

}  // namespace quire

#endif  // WORKER_SERVICE_WORKER_SERVICE_H_
