// SPDX-License-Identifier: Apache-2.0
#include "tests/integration/stream.h"

namespace quire {

StreamOutcome RunStream(
    v1::Inference::Stub& stub, const v1::GenerateRequest& request,
    const std::function<void(grpc::ClientContext&, int64_t)>& on_chunk) {
  StreamOutcome outcome;
  grpc::ClientContext context;
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (response.has_complete()) {
      outcome.complete = true;
      continue;
    }
    const v1::Chunk& chunk = response.chunk();
    if (chunk.token_offset() != outcome.token_ids.size()) {
      outcome.contiguous = false;
    }
    outcome.token_ids.insert(outcome.token_ids.end(), chunk.token_ids().begin(),
                             chunk.token_ids().end());
    for (const v1::TokenLogprobs& token : chunk.logprobs()) {
      outcome.logprobs.push_back(token.logprob());
    }
    outcome.text += chunk.text();
    if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
      outcome.finish_reason = chunk.finish_reason();
    }
    if (on_chunk) on_chunk(context, outcome.token_ids.size());
  }
  outcome.status = reader->Finish();
  return outcome;
}

v1::GenerateRequest TextRequest(const std::string& prompt, int max_tokens) {
  v1::GenerateRequest request;
  request.set_text(prompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  return request;
}

}  // namespace quire
