// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/chat_plan.h"

#include <memory>
#include <string>

#include "common/wire/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

constexpr char kTemplate[] =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}"
    "{% endfor %}{{ m.tool_call_id }}{% endfor %}"
    "{% if tools %}T{{ tools | tojson }}{% endif %}"
    "{% for d in documents %}D{{ d.title }}{% endfor %}"
    "{% if deep %}deep{% endif %}{% if add_generation_prompt %}>{% endif %}";

std::shared_ptr<const ChatTemplate> Compile(const std::string& source) {
  return *ChatTemplate::FromString(source);
}

class ChatPlanTest : public testing::Test {
 protected:
  ChatPlanTest() {
    facts_.chat_template = Compile(kTemplate);
    limits_.model_name = "m";
    limits_.max_text_bytes = 1000;
    *request_.add_messages() = Message("user", "hi");
  }

  static v1::ChatMessage Message(const std::string& role,
                                 const std::string& content) {
    v1::ChatMessage message;
    message.set_role(role);
    message.set_content(content);
    return message;
  }

  v1::Function* AddTool(const std::string& name) {
    v1::Function* function = request_.add_tools()->mutable_function();
    function->set_name(name);
    return function;
  }

  absl::StatusOr<ChatPlan> Plan() {
    return PlanChat(request_, facts_, limits_, absl::UnixEpoch());
  }

  std::string Rendered() {
    const absl::StatusOr<ChatPlan> plan = Plan();
    EXPECT_TRUE(plan.ok()) << plan.status();
    if (!plan.ok()) return "";
    const auto text = plan->chat_template->Render(plan->messages, plan->render);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? *text : "";
  }

  void ExpectRefused(const std::string& field, const std::string& words) {
    const absl::Status status = Plan().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    const ErrorDetails details = GetErrorDetails(status);
    ASSERT_EQ(details.field_violations.size(), 1u) << status;
    EXPECT_EQ(details.field_violations[0].field, field);
  }

  ChatFacts facts_;
  ModelLimits limits_;
  v1::ChatRequest request_;
};

TEST_F(ChatPlanTest, MessagesReachTheTemplateWhole) {
  v1::ChatMessage* call = request_.add_messages();
  call->set_role("assistant");
  v1::ToolCall* tool_call = call->add_tool_calls();
  tool_call->set_id("c1");
  tool_call->set_name("f");
  tool_call->set_arguments_json(R"({"b": 1, "a": 2.50})");
  v1::ChatMessage* answer = request_.add_messages();
  *answer = Message("tool", "42");
  answer->set_tool_call_id("c1");
  EXPECT_EQ(Rendered(),
            "[user]hi[assistant]None<tool_call>"
            R"({"name": "f", "arguments": {"b": 1, "a": 2.5}})"
            "[tool]42c1>");
}

TEST_F(ChatPlanTest, ToolsDocumentsAndKwargsAreVariables) {
  v1::Function* function = AddTool("f");
  function->set_description("does");
  function->set_parameters_json(R"({"type": "object", "required": []})");
  AddTool("g");
  request_.add_documents_json(R"({"title": "One"})");
  request_.set_template_kwargs_json(R"({"deep": true})");
  EXPECT_EQ(Rendered(),
            "[user]hiT"
            R"([{"type": "function", "function": {"name": "f", )"
            R"("description": "does", "parameters": )"
            R"({"type": "object", "required": []}}}, )"
            R"({"type": "function", "function": {"name": "g", )"
            R"("parameters": {"type": "object", "properties": {}}}}])"
            "DOnedeep>");
}

TEST_F(ChatPlanTest, PartsAreJoinedUnlessTheTemplateReadsThem) {
  request_.clear_messages();
  v1::ChatMessage* message = request_.add_messages();
  message->set_role("user");
  message->add_parts()->set_text("one");
  message->add_parts()->set_text("two");
  message->mutable_parts(1)->set_type("text");
  EXPECT_EQ(Rendered(), "[user]one\ntwo>");
  facts_.chat_template = Compile(
      "{% for m in messages %}{% if m.content is string %}S{{ m.content }}"
      "{% else %}{% for p in m.content %}P{{ p.text }}{% endfor %}{% endif %}"
      "{% endfor %}");
  EXPECT_EQ(Rendered(), "PonePtwo");
  message->mutable_parts(1)->set_type("image_url");
  ExpectRefused("messages[0].parts[1].type", "text alone");
}

TEST_F(ChatPlanTest, AnswersBeginOrGoOn) {
  request_.set_add_generation_prompt(false);
  EXPECT_EQ(Rendered(), "[user]hi");
  request_.clear_add_generation_prompt();
  *request_.add_messages() = Message("assistant", "so");
  request_.set_continue_final_message(true);
  EXPECT_EQ(Rendered(), "[user]hi[assistant]so");
  request_.set_add_generation_prompt(true);
  ExpectRefused("continue_final_message", "exclude each other");
}

TEST_F(ChatPlanTest, WhatGeneratesIsTakenOver) {
  request_.set_request_id("r");
  request_.mutable_sampling()->set_temperature(0.5);
  request_.set_priority(-2);
  request_.set_tenant("t");
  request_.set_use_prefix_cache(false);
  request_.set_cache_salt("s");
  const absl::StatusOr<ChatPlan> plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->generate.request_id(), "r");
  EXPECT_TRUE(plan->generate.has_text());
  EXPECT_EQ(plan->generate.sampling().temperature(), 0.5);
  EXPECT_EQ(plan->generate.priority(), -2);
  EXPECT_EQ(plan->generate.tenant(), "t");
  EXPECT_FALSE(plan->generate.use_prefix_cache());
  EXPECT_EQ(plan->generate.cache_salt(), "s");
  EXPECT_EQ(plan->render.max_output_bytes, 4000u);
}

TEST_F(ChatPlanTest, CallsAreLookedForWhereThereAreToolsToCall) {
  EXPECT_EQ(Plan()->tool_calls, ToolCallFormat::kNone);
  AddTool("f");
  EXPECT_EQ(Plan()->tool_calls, ToolCallFormat::kHermes);  // as it is written
  facts_.tool_call_format = ToolCallFormat::kMistral;
  EXPECT_EQ(Plan()->tool_calls, ToolCallFormat::kMistral);
  request_.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_NONE);
  EXPECT_EQ(Plan()->tool_calls, ToolCallFormat::kNone);
}

TEST_F(ChatPlanTest, AForcedCallIsASchemaOfTheAnswer) {
  AddTool("f")->set_parameters_json(
      R"({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}},
          "$defs": {"n": {"type": "number"}}})");
  AddTool("g");
  request_.mutable_tool_choice()->set_name("f");
  const absl::StatusOr<ChatPlan> named = Plan();
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->tool_calls, ToolCallFormat::kLlama3);
  const auto& schema =
      named->generate.sampling().structured_output().json_schema();
  EXPECT_EQ(schema,
            R"({"type":"object","properties":{"name":{"const":"f"},)"
            R"("arguments":{"type":"object","properties":{"a":)"
            R"({"$ref":"#/properties/arguments/$defs/n"}},)"
            R"("$defs":{"n":{"type":"number"}}}},)"
            R"("required":["name","arguments"],"additionalProperties":false})");
  request_.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED);
  const absl::StatusOr<ChatPlan> any = Plan();
  ASSERT_TRUE(any.ok()) << any.status();
  const std::string either =
      any->generate.sampling().structured_output().json_schema();
  EXPECT_THAT(either, HasSubstr(R"({"anyOf":[{"type")"));
  EXPECT_THAT(either, HasSubstr("#/anyOf/0/properties/arguments/$defs/n"));
  EXPECT_THAT(either, HasSubstr(R"("const":"g")"));
  request_.mutable_tool_choice()->set_name("h");
  ExpectRefused("tool_choice", "none of the tools");
  request_.mutable_tool_choice()->set_name("g");
  request_.mutable_sampling()->mutable_structured_output()->set_regex("a");
  ExpectRefused("tool_choice", "set one");
}

TEST_F(ChatPlanTest, ToolsHaveATemplateOfTheirOwnWhereTheModelHasOne) {
  facts_.tool_template = Compile("tools!");
  EXPECT_EQ(Rendered(), "[user]hi>");
  AddTool("f");
  EXPECT_EQ(Rendered(), "tools!");
}

TEST_F(ChatPlanTest, AClientsTemplateNeedsTrust) {
  request_.set_chat_template("own{{ bos_token }}");
  ExpectRefused("chat_template", "--trust_request_chat_template");
  facts_.trust_request_chat_template = true;
  facts_.special_tokens = {{"bos_token", "<s>"}};
  EXPECT_EQ(Rendered(), "own<s>");
  request_.set_chat_template("a\n{% if %}");
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("line 2"));
}

TEST_F(ChatPlanTest, AModelWithoutATemplateSaysSo) {
  facts_.chat_template = nullptr;
  facts_.no_template = "none, sorry";
  const absl::Status status = Plan().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "none, sorry");
  EXPECT_EQ(GetErrorDetails(status).reason, "NO_CHAT_TEMPLATE");
}

TEST_F(ChatPlanTest, BadMessagesAreNamed) {
  request_.mutable_messages(0)->set_role("");
  ExpectRefused("messages[0].role", "such as \"user\"");
  request_.mutable_messages(0)->set_role("user");
  request_.mutable_messages(0)->add_parts()->set_text("x");
  ExpectRefused("messages[0].parts", "set one");
  request_.mutable_messages(0)->clear_parts();
  request_.mutable_messages(0)->set_extra_json("[1]");
  ExpectRefused("messages[0].extra_json", "not a JSON object");
  request_.mutable_messages(0)->set_extra_json(R"({"role": "x"})");
  ExpectRefused("messages[0].extra_json", "field of its own");
  request_.mutable_messages(0)->clear_extra_json();
  request_.mutable_messages(0)->add_tool_calls()->set_name("f");
  request_.mutable_messages(0)->mutable_tool_calls(0)->set_arguments_json("7");
  ExpectRefused("messages[0].tool_calls[0].arguments_json", "JSON object");
  request_.mutable_sampling()->set_echo(true);
  request_.mutable_messages(0)->clear_tool_calls();
  ExpectRefused("sampling.echo", "use Generate");
  request_.mutable_sampling()->clear_echo();
  request_.clear_messages();
  ExpectRefused("messages", "1 to 4096");
  *request_.add_messages() = Message("user", std::string(1000, 'x'));
  ExpectRefused("messages", "at most 1000");
}

TEST_F(ChatPlanTest, BadToolsAreNamed) {
  AddTool("two words");
  ExpectRefused("tools[0].function.name", "letters");
  request_.mutable_tools(0)->mutable_function()->set_name("f");
  AddTool("f");
  ExpectRefused("tools[1].function.name", "rename one");
  request_.mutable_tools()->RemoveLast();
  request_.mutable_tools(0)->mutable_function()->set_parameters_json("{");
  ExpectRefused("tools[0].function.parameters_json", "not a JSON object");
  request_.clear_tools();
  request_.set_template_kwargs_json(R"({"tools": []})");
  ExpectRefused("template_kwargs_json", "field of its own");
  request_.clear_template_kwargs_json();
  request_.add_documents_json("");
  ExpectRefused("documents_json[0]", "empty");
  request_.clear_documents_json();
  request_.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED);
  ExpectRefused("tool_choice", "needs tools");
}

}  // namespace
}  // namespace quire
