// SPDX-License-Identifier: Apache-2.0
//
// What was said in a terminal's conversation, and the commands that change it.
#ifndef TOOLS_QUIRE_CHAT_HISTORY_H_
#define TOOLS_QUIRE_CHAT_HISTORY_H_

#include <string>
#include <vector>

#include "proto/chat.pb.h"

namespace quire {

// Thread-compatible.
class ChatHistory final {
 public:
  // `system` stands before everything else; "": nothing does.
  explicit ChatHistory(std::string system) : system_(std::move(system)) {}

  enum class Action {
    kAsk,   // the line is the user's next message: ask the model
    kTell,  // it was a command; show `reply`
    kQuit,
  };
  struct Reaction {
    Action action = Action::kAsk;
    std::string reply = "";
  };

  // Takes a line that the user wrote.
  Reaction React(const std::string& line);

  // The conversation up to the user's last message.
  void FillRequest(v1::ChatRequest* request) const;

  // The model's answer to it, as far as it came.
  void AddAnswer(const v1::ChatMessage& answer);
  // There is none: the user's last message was never said.
  void TakeBack();

 private:
  std::string system_;
  std::vector<v1::ChatMessage> messages_;
};

}  // namespace quire

#endif  // TOOLS_QUIRE_CHAT_HISTORY_H_
