// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/generate_call.h"

#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/error_details.h"
#include "common/wire/status_wire.h"
#include "coordinator/gateway/generate_session.h"

namespace quire {
namespace {

// Deletes itself when gRPC is done with it.
class GenerateCall final
    : public grpc::ServerWriteReactor<v1::GenerateResponse>,
      public ResponseWriter {
 public:
  GenerateCall(const GatewayContext* gateway, uint64_t number,
               grpc::CallbackServerContext* rpc)
      : rpc_(rpc),
        session_(GenerateSession::Create(
            gateway, number, DeadlineOf(*rpc, gateway->clock->Now()), this)) {}

  void Start(const v1::GenerateRequest* request) {
    SessionInput input;
    input.request = request;
    session_->Start(input);
  }

 private:
  bool Write(const v1::GenerateResponse& response) override {
    StartWrite(&response);
    return false;
  }
  void WriteLast(const v1::GenerateResponse& response) override {
    StartWriteAndFinish(&response, grpc::WriteOptions(), grpc::Status::OK);
  }
  void Finish(const absl::Status& status) override {
    AddPushback(status, rpc_);
    ServerWriteReactor::Finish(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override { session_->OnWriteDone(ok); }
  void OnCancel() override { session_->OnCancel(); }
  void OnDone() override {
    session_->OnDone();
    delete this;
  }

  grpc::CallbackServerContext* const rpc_;
  const std::shared_ptr<GenerateSession> session_;
};

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* StartGenerateCall(
    const GatewayContext* gateway, uint64_t number,
    grpc::CallbackServerContext* rpc, const v1::GenerateRequest* request) {
  auto* call = new GenerateCall(gateway, number, rpc);
  call->Start(request);
  return call;
}

// The wall clock may jump; what is left of the time does not.
absl::Time DeadlineOf(const grpc::CallbackServerContext& rpc, absl::Time now) {
  const auto deadline = rpc.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) {
    return absl::InfiniteFuture();
  }
  return now + absl::FromChrono(deadline - std::chrono::system_clock::now());
}

void AddPushback(const absl::Status& status, grpc::CallbackServerContext* rpc) {
  const ErrorDetails details = GetErrorDetails(status);
  if (!details.retry_delay.has_value()) return;
  rpc->AddTrailingMetadata(
      "grpc-retry-pushback-ms",
      absl::StrCat(absl::ToInt64Milliseconds(*details.retry_delay)));
}

}  // namespace quire
