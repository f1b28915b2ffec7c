// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/server_requests.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/status_wire.h"
#include "proto/inference.grpc.pb.h"

namespace quire {

ServerRequests::ServerRequests(std::shared_ptr<grpc::Channel> channel,
                               std::string model, int jobs)
    : channel_(std::move(channel)),
      model_(std::move(model)),
      threads_(jobs, /*max_queued=*/jobs) {}

void ServerRequests::Start(const v1::GenerateRequest& request,
                           std::function<void(LLMResult)> done) {
  if (threads_.TryRun([this, request, done] { done(Run(request)); })) return;
  LLMResult result;
  result.status = absl::ResourceExhaustedError("too many requests at once");
  done(std::move(result));
}

LLMResult ServerRequests::Run(v1::GenerateRequest request) const {
  request.set_model(model_);
  LLMResult result;
  result.answers.resize(std::max<uint32_t>(1, request.sampling().n()));
  grpc::ClientContext context;
  v1::Inference::Stub stub(channel_);
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  bool is_complete = false;
  absl::Status bad;
  while (bad.ok() && reader->Read(&response)) {
    result.request_id = response.request_id();
    if (response.has_complete()) {
      is_complete = true;
      result.complete = response.complete();
    }
    if (!response.has_chunk()) continue;
    const v1::Chunk& chunk = response.chunk();
    if (chunk.index() >= result.answers.size() ||
        chunk.token_offset() !=
            result.answers[chunk.index()].token_ids.size()) {
      bad = absl::DataLossError("the server's chunks do not follow on");
      break;
    }
    LLMAnswer& answer = result.answers[chunk.index()];
    answer.text += chunk.text();
    answer.token_ids.insert(answer.token_ids.end(), chunk.token_ids().begin(),
                            chunk.token_ids().end());
    answer.logprobs.insert(answer.logprobs.end(), chunk.logprobs().begin(),
                           chunk.logprobs().end());
    if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
      answer.finish_reason = chunk.finish_reason();
    }
  }
  if (!bad.ok()) context.TryCancel();
  result.status = FromGrpcStatus(reader->Finish());
  if (!bad.ok()) result.status = bad;
  if (result.status.ok() && !is_complete) {
    result.status = absl::DataLossError(
        "the stream ended without saying that it was complete");
  }
  return result;
}

}  // namespace quire
