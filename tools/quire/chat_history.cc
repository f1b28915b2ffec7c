// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/chat_history.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace quire {
namespace {

constexpr char kHelp[] =
    "/reset         forget what was said\n"
    "/system TEXT   say TEXT before everything else; without TEXT, show it\n"
    "/help          show this\n"
    "/quit          leave, as the end of the input does\n"
    "Ctrl-C stops an answer. A line that begins with // is a message that "
    "begins with /.";

}  // namespace

ChatHistory::Reaction ChatHistory::React(const std::string& line) {
  absl::string_view text = absl::StripAsciiWhitespace(line);
  if (text.empty()) return {Action::kTell};
  if (text[0] != '/' || absl::StartsWith(text, "//")) {
    if (text[0] == '/') text.remove_prefix(1);
    v1::ChatMessage message;
    message.set_role("user");
    message.set_content(std::string(text));
    messages_.push_back(std::move(message));
    return {Action::kAsk};
  }
  const size_t end = std::min(text.find(' '), text.size());
  const absl::string_view command = text.substr(0, end);
  const std::string rest(absl::StripAsciiWhitespace(text.substr(end)));
  if (command == "/quit" || command == "/exit") return {Action::kQuit};
  if (command == "/help") return {Action::kTell, kHelp};
  if (command == "/reset") {
    messages_.clear();
    return {Action::kTell, "(forgotten)"};
  }
  if (command == "/system") {
    if (!rest.empty()) system_ = rest;
    return {Action::kTell, system_.empty()
                               ? "(nothing is said before everything else)"
                               : absl::StrCat("(system: ", system_, ")")};
  }
  return {Action::kTell, absl::StrCat("no command ", std::string(command),
                                      "; /help lists them")};
}

void ChatHistory::FillRequest(v1::ChatRequest* request) const {
  if (!system_.empty()) {
    v1::ChatMessage* message = request->add_messages();
    message->set_role("system");
    message->set_content(system_);
  }
  for (const v1::ChatMessage& message : messages_) {
    *request->add_messages() = message;
  }
}

void ChatHistory::AddAnswer(const v1::ChatMessage& answer) {
  messages_.push_back(answer);
}

void ChatHistory::TakeBack() {
  if (!messages_.empty()) messages_.pop_back();
}

}  // namespace quire
