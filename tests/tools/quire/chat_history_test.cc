// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/chat_history.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using Action = ChatHistory::Action;

// "role:content" of each message.
std::string Conversation(const ChatHistory& history) {
  v1::ChatRequest request;
  history.FillRequest(&request);
  std::string text;
  for (const v1::ChatMessage& message : request.messages()) {
    text += message.role() + ":" + message.content() + ";";
  }
  return text;
}

v1::ChatMessage Answer(const std::string& content) {
  v1::ChatMessage message;
  message.set_role("assistant");
  message.set_content(content);
  return message;
}

TEST(ChatHistoryTest, MessagesAndAnswersPileUp) {
  ChatHistory history("Be brief.");
  EXPECT_EQ(history.React("  Hello \r").action, Action::kAsk);
  EXPECT_EQ(Conversation(history), "system:Be brief.;user:Hello;");
  history.AddAnswer(Answer("Hi"));
  EXPECT_EQ(history.React("Bye").action, Action::kAsk);
  EXPECT_EQ(Conversation(history),
            "system:Be brief.;user:Hello;assistant:Hi;user:Bye;");
  history.TakeBack();
  EXPECT_EQ(Conversation(history), "system:Be brief.;user:Hello;assistant:Hi;");
}

TEST(ChatHistoryTest, CommandsAreNotSaid) {
  ChatHistory history("");
  history.React("Hello");
  history.AddAnswer(Answer("Hi"));
  EXPECT_EQ(history.React("").action, Action::kTell);
  EXPECT_THAT(history.React("/help").reply, HasSubstr("/reset"));
  EXPECT_THAT(history.React("/what").reply, HasSubstr("no command /what"));
  EXPECT_THAT(history.React("/system").reply, HasSubstr("nothing"));
  EXPECT_EQ(history.React("/system Speak German.").action, Action::kTell);
  EXPECT_EQ(Conversation(history),
            "system:Speak German.;user:Hello;assistant:Hi;");
  EXPECT_EQ(history.React("/reset").action, Action::kTell);
  EXPECT_EQ(Conversation(history), "system:Speak German.;");
  EXPECT_EQ(history.React("/quit").action, Action::kQuit);
  EXPECT_EQ(history.React("/exit").action, Action::kQuit);
}

TEST(ChatHistoryTest, ADoubledSlashIsAMessage) {
  ChatHistory history("");
  EXPECT_EQ(history.React("//etc/hosts?").action, Action::kAsk);
  EXPECT_EQ(Conversation(history), "user:/etc/hosts?;");
}

}  // namespace
}  // namespace quire
