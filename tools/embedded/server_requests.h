// SPDX-License-Identifier: Apache-2.0
//
// Requests of a batch to a server, a thread each.
#ifndef TOOLS_EMBEDDED_SERVER_REQUESTS_H_
#define TOOLS_EMBEDDED_SERVER_REQUESTS_H_

#include <functional>
#include <memory>
#include <string>

#include "coordinator/gateway/text_pool.h"
#include "proto/inference.pb.h"
#include "tools/embedded/llm.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace quire {

// Thread-safe.
class ServerRequests final {
 public:
  // `model` is a served model's name; "": the only one.
  ServerRequests(std::shared_ptr<grpc::Channel> channel, std::string model,
                 int jobs);

  // As batch_run.h's StartRequest. REQUIRES: at most `jobs` run.
  void Start(const v1::GenerateRequest& request,
             std::function<void(LLMResult)> done);

 private:
  LLMResult Run(v1::GenerateRequest request) const;

  const std::shared_ptr<grpc::Channel> channel_;
  const std::string model_;
  TextPool threads_;
};

}  // namespace quire

#endif  // TOOLS_EMBEDDED_SERVER_REQUESTS_H_
