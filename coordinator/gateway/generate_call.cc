// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/generate_call.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/error_details.h"
#include "common/wire/status_wire.h"
#include "proto/inference.grpc.pb.h"

namespace quire {

GenerateCall::GenerateCall(const GatewayContext* gateway, StreamCallSeat seat)
    : StreamCall(std::move(seat)), gateway_(gateway) {}

void GenerateCall::OnArrival(
    uint64_t number, const absl::StatusOr<v1::GenerateRequest>& request) {
  session_ = GenerateSession::Create(
      gateway_, number, DeadlineOf(*rpc(), gateway_->clock->Now()), this);
  if (!request.ok()) {
    session_->Refuse(request.status());
    return;
  }
  SessionInput input;
  input.request = &*request;
  session_->Start(input);
}

bool GenerateCall::Write(const v1::GenerateResponse& response) {
  StartWrite(response);
  return false;
}

void GenerateCall::WriteLast(const v1::GenerateResponse& response) {
  StartWriteAndFinish(response);
}

void GenerateCall::Finish(const absl::Status& status) {
  AddPushback(status, rpc());
  StartFinish(ToGrpcStatus(status));
}

// The wall clock may jump; what is left of the time does not.
absl::Time DeadlineOf(const grpc::ServerContext& rpc, absl::Time now) {
  const auto deadline = rpc.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) {
    return absl::InfiniteFuture();
  }
  return now + absl::FromChrono(deadline - std::chrono::system_clock::now());
}

void AddPushback(const absl::Status& status, grpc::ServerContext* rpc) {
  const ErrorDetails details = GetErrorDetails(status);
  if (!details.retry_delay.has_value()) return;
  rpc->AddTrailingMetadata(
      "grpc-retry-pushback-ms",
      absl::StrCat(absl::ToInt64Milliseconds(*details.retry_delay)));
}

}  // namespace quire
