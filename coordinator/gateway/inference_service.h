// SPDX-License-Identifier: Apache-2.0
//
// The public gRPC service. Thin: each method checks its input, asks one room
// and converts the answer. No thread waits for a stream.
#ifndef COORDINATOR_GATEWAY_INFERENCE_SERVICE_H_
#define COORDINATOR_GATEWAY_INFERENCE_SERVICE_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

#include "coordinator/gateway/call_queues.h"
#include "coordinator/gateway/gateway_context.h"

namespace quire {

// Thread-compatible.
class InferenceService {
 public:
  virtual ~InferenceService() = default;

  // To be registered at a server to which `queues` have been added.
  virtual grpc::Service* service() = 0;
  // Begins to take calls that stream. REQUIRES: the server has started.
  virtual void TakeCalls() = 0;
};

// The service; `gateway` and `queues` must outlive it.
std::unique_ptr<InferenceService> MakeInferenceService(
    const GatewayContext* gateway, CallQueues* queues);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_INFERENCE_SERVICE_H_
