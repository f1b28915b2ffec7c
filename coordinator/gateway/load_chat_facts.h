// SPDX-License-Identifier: Apache-2.0
//
// A model folder's chat templates, read when a server starts.
#ifndef COORDINATOR_GATEWAY_LOAD_CHAT_FACTS_H_
#define COORDINATOR_GATEWAY_LOAD_CHAT_FACTS_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/text/tool_call_parser.h"
#include "coordinator/gateway/chat_plan.h"

namespace quire {

struct ChatOptions {
  // A Jinja file in place of the model's own template; "": the model's.
  std::string chat_template;
  bool trust_request_chat_template = false;
  // How calls are written; none: as the template shows.
  std::optional<ToolCallFormat> tool_call_format;
};

// A model without a template, or with one that does not compile, is served
// without chats: the facts say why, to clients without the folder's path.
// InvalidArgument and NotFound concern the template given, by its flag's name.
absl::StatusOr<ChatFacts> LoadChatFacts(const std::string& model_folder,
                                        const ChatOptions& options);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_LOAD_CHAT_FACTS_H_
