// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/load_chat_facts.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class LoadChatFactsTest : public testing::Test {
 protected:
  LoadChatFactsTest()
      : folder_(std::string(testing::TempDir()) + "/" +
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }

  const std::string folder_;
};

TEST_F(LoadChatFactsTest, TakesTheModelsOwnTemplates) {
  Write("tokenizer_config.json",
        R"({"bos_token": "<s>", "chat_template": [
            {"name": "default", "template": "plain {{ bos_token }}"},
            {"name": "tool_use", "template": "tools"}]})");
  const auto facts = LoadChatFacts(folder_, {});
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(*facts->chat_template->Render({}), "plain <s>");
  EXPECT_EQ(*facts->tool_template->Render({}), "tools");
  EXPECT_EQ(facts->special_tokens.at("bos_token"), "<s>");
  EXPECT_FALSE(facts->tool_call_format.has_value());
}

TEST_F(LoadChatFactsTest, AFileOfTheTemplateAloneIsEnough) {
  Write("chat_template.jinja", "from the file");
  const auto facts = LoadChatFacts(folder_, {});
  ASSERT_TRUE(facts.ok()) << facts.status();
  ASSERT_NE(facts->chat_template, nullptr);
  EXPECT_EQ(*facts->chat_template->Render({}), "from the file");
  EXPECT_EQ(facts->tool_template, nullptr);
}

TEST_F(LoadChatFactsTest, WithoutATemplateTheFactsSayWhatToDo) {
  const auto facts = LoadChatFacts(folder_, {});
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->chat_template, nullptr);
  EXPECT_THAT(facts->no_template, HasSubstr("--chat_template=FILE"));
  // Many models are not meant to chat.
  EXPECT_EQ(facts->warning, "");
}

TEST_F(LoadChatFactsTest, ABrokenTemplateIsToldWithItsLine) {
  Write("chat_template.jinja", "one\ntwo\n{% if %}");
  const auto facts = LoadChatFacts(folder_, {});
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->chat_template, nullptr);
  EXPECT_THAT(facts->no_template,
              AllOf(HasSubstr("cannot be used: chat_template.jinja: "),
                    HasSubstr("line 3"), HasSubstr("--chat_template=FILE"),
                    Not(HasSubstr(folder_)), Not(HasSubstr("\n"))));
  EXPECT_THAT(
      facts->warning,
      AllOf(HasSubstr(folder_ + "/chat_template.jinja: "), HasSubstr("line 3"),
            HasSubstr("--chat_template"), Not(HasSubstr("\n"))));
}

TEST_F(LoadChatFactsTest, ABrokenTemplateForToolsLeavesTheOther) {
  Write("tokenizer_config.json",
        R"({"chat_template": [{"name": "default", "template": "plain"},
            {"name": "tool_use", "template": "{% if %}"}]})");
  const auto facts = LoadChatFacts(folder_, {});
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_NE(facts->chat_template, nullptr);
  EXPECT_EQ(facts->tool_template, nullptr);
  EXPECT_THAT(facts->warning,
              AllOf(HasSubstr("template for tools"), HasSubstr("line 1")));
}

TEST_F(LoadChatFactsTest, TheFlagsFileGoesFirstAndMustBeGood) {
  Write("tokenizer_config.json",
        R"({"eos_token": "</s>", "chat_template": "model's"})");
  Write("own.jinja", "own {{ eos_token }}");
  ChatOptions options;
  options.chat_template = folder_ + "/own.jinja";
  const auto facts = LoadChatFacts(folder_, options);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(*facts->chat_template->Render({}), "own </s>");
  Write("own.jinja", "one\n{{ two");
  EXPECT_THAT(std::string(LoadChatFacts(folder_, options).status().message()),
              testing::AllOf(HasSubstr("--chat_template: "),
                             HasSubstr("own.jinja"), HasSubstr("line 2")));
  options.chat_template = folder_ + "/absent";
  EXPECT_EQ(LoadChatFacts(folder_, options).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(LoadChatFactsTest, AFormatOfCallsThatIsNamedIsTaken) {
  ChatOptions options;
  EXPECT_EQ(LoadChatFacts(folder_, options)->tool_call_format, std::nullopt);
  options.tool_call_format = ToolCallFormat::kNone;
  EXPECT_EQ(LoadChatFacts(folder_, options)->tool_call_format,
            ToolCallFormat::kNone);
}

}  // namespace
}  // namespace quire
