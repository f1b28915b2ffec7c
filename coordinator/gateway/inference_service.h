// SPDX-License-Identifier: Apache-2.0
//
// The public gRPC service. Thin: each method checks its input, asks one room
// and converts the answer. No thread waits for a stream.
#ifndef COORDINATOR_GATEWAY_INFERENCE_SERVICE_H_
#define COORDINATOR_GATEWAY_INFERENCE_SERVICE_H_

#include <memory>

#include "coordinator/gateway/gateway_context.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace quire {

// The service; `gateway` must outlive it.
std::unique_ptr<grpc::Service> MakeInferenceService(
    const GatewayContext* gateway);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_INFERENCE_SERVICE_H_
