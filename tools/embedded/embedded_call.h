// SPDX-License-Identifier: Apache-2.0
//
// One request of an embedded model: a session whose answer is kept.
#ifndef TOOLS_EMBEDDED_EMBEDDED_CALL_H_
#define TOOLS_EMBEDDED_EMBEDDED_CALL_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/generate_session.h"
#include "proto/inference.pb.h"
#include "tools/embedded/llm.h"

namespace quire {

// Thread-safe but for Take.
class EmbeddedCall final : public ResponseWriter {
 public:
  // `on_end` is called when the answer is whole, under the session's lock: it
  // hands over to whoever calls Take.
  EmbeddedCall(const GatewayContext* gateway, uint64_t number,
               std::function<void()> on_end);

  void Start(const v1::GenerateRequest& request);
  void Abort(const absl::Status& status) { session_->Abort(status); }

  // The end of it. REQUIRES: `on_end` was called, not by this thread.
  LLMResult Take();

 private:
  bool Write(const v1::GenerateResponse& response) override;
  void WriteLast(const v1::GenerateResponse& response) override;
  void Finish(const absl::Status& status) override;

  const std::function<void()> on_end_;
  const std::shared_ptr<GenerateSession> session_;
  LLMResult result_;  // the session's calls come one at a time
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_EMBEDDED_CALL_H_
