// SPDX-License-Identifier: Apache-2.0
//
// One Chat call of gRPC's: a conversation in, a session's chunks out as an
// answer.
#ifndef COORDINATOR_GATEWAY_CHAT_CALL_H_
#define COORDINATOR_GATEWAY_CHAT_CALL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/text/tool_call_parser.h"
#include "coordinator/gateway/chat_stream.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/generate_session.h"
#include "coordinator/gateway/stream_call.h"
#include "proto/inference.pb.h"

namespace quire {

class ChatCall final : public StreamCall<v1::ChatRequest, v1::ChatResponse>,
                       public ResponseWriter {
 public:
  // `gateway` outlives it.
  ChatCall(const GatewayContext* gateway, StreamCallSeat seat);

 private:
  std::optional<size_t> lane() const override { return seat().lane; }
  bool Write(const v1::GenerateResponse& response) override;
  void WriteLast(const v1::GenerateResponse& response) override;
  void Finish(const absl::Status& status) override;

  void OnArrival(uint64_t number,
                 const absl::StatusOr<v1::ChatRequest>& request) override;
  void OnWriteDone(bool ok) override { session_->OnWriteDone(ok); }
  void OnCancel() override { session_->OnCancel(); }
  void OnDone() override { session_->OnDone(); }

  // Makes the client's message of the session's.
  void Fill(const v1::GenerateResponse& response);

  const GatewayContext* const gateway_;
  // From the arrival on.
  uint64_t id_seed_ = 0;
  std::shared_ptr<GenerateSession> session_;
  ToolCallFormat format_ = ToolCallFormat::kNone;
  // The session's writes come one at a time.
  std::map<uint32_t, ChatStream> answers_;
  v1::ChatResponse response_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CHAT_CALL_H_
