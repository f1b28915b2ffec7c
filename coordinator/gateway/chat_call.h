// SPDX-License-Identifier: Apache-2.0
//
// One Chat call of gRPC's: a conversation in, a session's chunks out as an
// answer.
#ifndef COORDINATOR_GATEWAY_CHAT_CALL_H_
#define COORDINATOR_GATEWAY_CHAT_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>

#include "coordinator/gateway/gateway_context.h"
#include "proto/inference.pb.h"

namespace quire {

// Starts the call. `number` tells calls apart; `rpc` lives until the call is
// done, `request` is not used after the return.
grpc::ServerWriteReactor<v1::ChatResponse>* StartChatCall(
    const GatewayContext* gateway, uint64_t number,
    grpc::CallbackServerContext* rpc, const v1::ChatRequest* request);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CHAT_CALL_H_
