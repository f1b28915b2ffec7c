// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/embedded_call.h"

#include <algorithm>
#include <utility>

#include "common/sampling_params.h"

namespace quire {

EmbeddedCall::EmbeddedCall(const GatewayContext* gateway, uint64_t number,
                           std::function<void()> on_end)
    : on_end_(std::move(on_end)),
      session_(GenerateSession::Create(gateway, number, absl::InfiniteFuture(),
                                       this)) {}

void EmbeddedCall::Start(const v1::GenerateRequest& request) {
  result_.answers.resize(std::max<uint32_t>(
      1, std::min<uint32_t>(request.sampling().n(), kMaxSequencesPerGroup)));
  result_.request_id = request.request_id();
  SessionInput input;
  input.request = &request;
  session_->Start(input);
}

LLMResult EmbeddedCall::Take() {
  session_->OnDone();
  return std::move(result_);
}

bool EmbeddedCall::Write(const v1::GenerateResponse& response) {
  result_.request_id = response.request_id();
  if (!response.has_chunk()) return true;
  const v1::Chunk& chunk = response.chunk();
  LLMAnswer& answer = result_.answers[chunk.index()];
  answer.text += chunk.text();
  answer.token_ids.insert(answer.token_ids.end(), chunk.token_ids().begin(),
                          chunk.token_ids().end());
  answer.logprobs.insert(answer.logprobs.end(), chunk.logprobs().begin(),
                         chunk.logprobs().end());
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    answer.finish_reason = chunk.finish_reason();
  }
  return true;
}

void EmbeddedCall::WriteLast(const v1::GenerateResponse& response) {
  result_.request_id = response.request_id();
  result_.complete = response.complete();
  on_end_();
}

void EmbeddedCall::Finish(const absl::Status& status) {
  result_.status = status;
  on_end_();
}

}  // namespace quire
