// SPDX-License-Identifier: Apache-2.0
//
// quire.v1.ChatRequest -> what renders it and what generates the answer. Bad
// input is refused here, with the field's name.
#ifndef COORDINATOR_GATEWAY_CHAT_PLAN_H_
#define COORDINATOR_GATEWAY_CHAT_PLAN_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/text/chat_template.h"
#include "common/text/special_token_names.h"
#include "common/text/tool_call_parser.h"
#include "coordinator/gateway/validation.h"
#include "proto/chat.pb.h"
#include "proto/inference.pb.h"

namespace quire {

// How this server's model holds conversations.
struct ChatFacts {
  std::shared_ptr<const ChatTemplate> chat_template;  // null: none
  // In its place for requests with tools, unless null.
  std::shared_ptr<const ChatTemplate> tool_template;
  // Why there is no template: a sentence for clients.
  std::string no_template;
  // What the operator should know of it, in one line; "" if nothing.
  std::string warning;
  // Variables of a client's own template.
  SpecialTokenNames special_tokens;
  bool trust_request_chat_template = false;
  // How calls are written; none: as the template shows.
  std::optional<ToolCallFormat> tool_call_format;
};

struct ChatPlan {
  // Shared with the server, unless it is the client's own.
  std::shared_ptr<const ChatTemplate> chat_template;
  std::vector<ChatMessage> messages;
  ChatRenderOptions render;
  size_t num_bytes = 0;  // of what is rendered
  // kNone: the answer is text.
  ToolCallFormat tool_calls = ToolCallFormat::kNone;
  // Everything but the prompt, whose text is empty.
  v1::GenerateRequest generate;
};

// InvalidArgument names the field. FailedPrecondition, reason
// NO_CHAT_TEMPLATE, if the model has none. `now` is what templates tell.
absl::StatusOr<ChatPlan> PlanChat(const v1::ChatRequest& request,
                                  const ChatFacts& facts,
                                  const ModelLimits& limits, absl::Time now);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CHAT_PLAN_H_
