// SPDX-License-Identifier: Apache-2.0
//
// One Generate call, read to its end.
#ifndef TESTS_INTEGRATION_STREAM_H_
#define TESTS_INTEGRATION_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "proto/inference.grpc.pb.h"

namespace quire {

struct StreamOutcome {
  grpc::Status status;
  std::vector<uint32_t> token_ids;
  std::vector<float> logprobs;  // of the tokens, if asked for
  std::string text;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  bool complete = false;   // the last message came
  bool contiguous = true;  // every chunk began where the last one ended
};

// Runs the call; `on_chunk` (may be null) sees the number of tokens so far and
// may cancel through the context.
StreamOutcome RunStream(
    v1::Inference::Stub& stub, const v1::GenerateRequest& request,
    const std::function<void(grpc::ClientContext&, int64_t num_tokens)>&
        on_chunk = nullptr);

// A request for `max_tokens` tokens after `prompt`, end-of-sequence ignored.
v1::GenerateRequest TextRequest(const std::string& prompt, int max_tokens);

}  // namespace quire

#endif  // TESTS_INTEGRATION_STREAM_H_
