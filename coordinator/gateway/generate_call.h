// SPDX-License-Identifier: Apache-2.0
//
// One Generate call of gRPC's, carrying a session.
#ifndef COORDINATOR_GATEWAY_GENERATE_CALL_H_
#define COORDINATOR_GATEWAY_GENERATE_CALL_H_

#include <grpcpp/server_context.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/generate_session.h"
#include "coordinator/gateway/stream_call.h"
#include "proto/inference.pb.h"

namespace quire {

class GenerateCall final
    : public StreamCall<v1::GenerateRequest, v1::GenerateResponse>,
      public ResponseWriter {
 public:
  // `gateway` outlives it.
  GenerateCall(const GatewayContext* gateway, StreamCallSeat seat);

 private:
  std::optional<size_t> lane() const override { return seat().lane; }
  bool Write(const v1::GenerateResponse& response) override;
  void WriteLast(const v1::GenerateResponse& response) override;
  void Finish(const absl::Status& status) override;

  void OnArrival(uint64_t number,
                 const absl::StatusOr<v1::GenerateRequest>& request) override;
  void OnWriteDone(bool ok) override { session_->OnWriteDone(ok); }
  void OnCancel() override { session_->OnCancel(); }
  void OnDone() override { session_->OnDone(); }

  const GatewayContext* const gateway_;
  std::shared_ptr<GenerateSession> session_;  // from the arrival on
};

// The deadline of a call by a clock that says `now`.
absl::Time DeadlineOf(const grpc::ServerContext& rpc, absl::Time now);

// Tells the client's gRPC when to try again, if `status` does. Before the
// call's status.
void AddPushback(const absl::Status& status, grpc::ServerContext* rpc);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_GENERATE_CALL_H_
