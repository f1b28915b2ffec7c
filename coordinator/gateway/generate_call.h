// SPDX-License-Identifier: Apache-2.0
//
// One Generate call of gRPC's, carrying a session.
#ifndef COORDINATOR_GATEWAY_GENERATE_CALL_H_
#define COORDINATOR_GATEWAY_GENERATE_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/gateway/gateway_context.h"
#include "proto/inference.pb.h"

namespace quire {

// Starts the call. `number` tells calls apart; `rpc` lives until the call is
// done, `request` is not used after the return.
grpc::ServerWriteReactor<v1::GenerateResponse>* StartGenerateCall(
    const GatewayContext* gateway, uint64_t number,
    grpc::CallbackServerContext* rpc, const v1::GenerateRequest* request);

// The deadline of a call by a clock that says `now`.
absl::Time DeadlineOf(const grpc::CallbackServerContext& rpc, absl::Time now);

// Tells the client's gRPC when to try again, if `status` does. Before the
// call's status.
void AddPushback(const absl::Status& status, grpc::CallbackServerContext* rpc);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_GENERATE_CALL_H_
