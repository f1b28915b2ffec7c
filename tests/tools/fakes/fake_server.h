// SPDX-License-Identifier: Apache-2.0
//
// A public API server in this process, whose streams are scripted.
#ifndef TESTS_TOOLS_FAKES_FAKE_SERVER_H_
#define TESTS_TOOLS_FAKES_FAKE_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proto/inference.pb.h"

namespace grpc {
class Status;
}  // namespace grpc

namespace quire {

// Serves the model "fake" (100 token ids, a window of 4096) on a free port.
// Thread-safe.
class FakeServer {
 public:
  // What one call of Generate does.
  struct Script {
    std::vector<v1::GenerateResponse> responses = {};
    // After the responses, wait until the client or Cancel ends the call.
    bool hangs = false;
    // The status at the end; OK by default.
    int code = 0;
    std::string message = "";
  };
  using Behaviour = std::function<Script(const v1::GenerateRequest& request)>;

  // Answers every request with EchoScript.
  FakeServer();
  explicit FakeServer(Behaviour behaviour);
  ~FakeServer();

  std::string address() const;  // "127.0.0.1:port"
  int64_t num_requests() const;
  // What Chat was asked. It answers "heard " and the last message, but "fail"
  // with INVALID_ARGUMENT, "call" with a tool call, and "hang" without end.
  std::vector<v1::ChatRequest> chats() const;
  // Most calls of Generate at one time.
  int64_t max_concurrency() const;
  int64_t num_cancel_calls() const;
  // What GetServerInfo says. Call it before the first request.
  void set_info(const v1::GetServerInfoResponse& info);
  // What Explain says of the request of that id; it knows no others.
  void set_explained(const v1::ExplainResponse& explained);

 private:
  class Service;
  struct Running;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Running> running_;
};

// A complete stream of max_tokens tokens that depend on the prompt, the seed
// and the offset alone, one a message.
FakeServer::Script EchoScript(const v1::GenerateRequest& request);

v1::GenerateResponse ChunkResponse(uint64_t token_offset,
                                   const std::vector<uint32_t>& token_ids);
v1::GenerateResponse CompleteResponse(uint32_t num_prompt_tokens,
                                      uint32_t num_output_tokens);

}  // namespace quire

#endif  // TESTS_TOOLS_FAKES_FAKE_SERVER_H_
