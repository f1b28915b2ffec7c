// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/load_chat_facts.h"

#include <fstream>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Of a folder without a tokenizer_config.json, or with a broken one, none:
// what loads the tokenizer says what is wrong.
SpecialTokenNames ReadSpecialTokens(const std::string& config_path) {
  std::ifstream file(config_path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  absl::StatusOr<SpecialTokenNames> names = ParseSpecialTokenNames(text);
  return names.ok() ? *std::move(names) : SpecialTokenNames();
}

}  // namespace

absl::StatusOr<ChatFacts> LoadChatFacts(const std::string& model_folder,
                                        const ChatOptions& options) {
  ChatFacts facts;
  facts.trust_request_chat_template = options.trust_request_chat_template;
  facts.tool_call_format = options.tool_call_format;
  const std::string config =
      absl::StrCat(model_folder, "/tokenizer_config.json");
  facts.special_tokens = ReadSpecialTokens(config);
  if (!options.chat_template.empty()) {
    absl::StatusOr<std::unique_ptr<ChatTemplate>> own =
        ChatTemplate::FromFile(options.chat_template, facts.special_tokens);
    if (!own.ok()) {
      return absl::Status(
          own.status().code(),
          absl::StrCat("--chat_template: ", own.status().message()));
    }
    facts.chat_template = *std::move(own);
    return facts;
  }
  absl::StatusOr<std::unique_ptr<ChatTemplate>> found =
      ChatTemplate::FromTokenizerConfig(config);
  if (found.ok()) {
    facts.chat_template = *std::move(found);
  } else if (absl::IsNotFound(found.status())) {
    facts.no_template =
        "the model has no chat template; use Generate, or start the server "
        "with --chat_template=FILE";
  } else {
    const std::string reason(found.status().message());
    // The folder's path is the operator's own.
    facts.no_template = absl::StrCat(
        "the model's chat template cannot be used: ",
        absl::StrReplaceAll(reason, {{absl::StrCat(model_folder, "/"), ""}}),
        ". Use Generate, or start the server with --chat_template=FILE");
    facts.warning = absl::StrCat(
        "chats are refused, as the model's template cannot be "
        "used: ",
        reason, ". Mend it, or give another with --chat_template");
  }
  found = ChatTemplate::FromTokenizerConfig(config, "tool_use");
  if (found.ok()) {
    facts.tool_template = *std::move(found);
  } else if (!absl::IsNotFound(found.status()) && facts.warning.empty()) {
    facts.warning =
        absl::StrCat("the model's template for tools cannot be used: ",
                     found.status().message(),
                     ". Its other template takes chats with tools");
  }
  if (!facts.warning.empty()) LOG(WARNING) << facts.warning;
  return facts;
}

}  // namespace quire
