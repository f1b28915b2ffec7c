// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace quire {
namespace {

const std::vector<ChatMessage> kTalk = {
    {"system", "  Be brief. ", ""},
    {"user", "What is a block?", ""},
    {"assistant", "16 tokens.", ""},
    {"user", "And a <b>table</b>?", ""},
};

constexpr char kChatMl[] = R"({%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'].strip() }}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
)";

std::unique_ptr<ChatTemplate> Compile(const std::string& source) {
  auto result = ChatTemplate::FromString(
      source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

std::string Render(const std::string& source,
                   const std::vector<ChatMessage>& messages = {},
                   const ChatRenderOptions& options = {}) {
  const auto text = Compile(source)->Render(messages, options);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

void ExpectInvalid(const absl::Status& status, const std::string& what) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_NE(status.message().find(what), std::string::npos)
      << "no \"" << what << "\" in: " << status;
}

absl::Status RenderStatus(const std::string& source,
                          const std::vector<ChatMessage>& messages = {},
                          const ChatRenderOptions& options = {}) {
  return Compile(source)->Render(messages, options).status();
}

TEST(ChatTemplateTest, RendersTheChatMlShape) {
  EXPECT_EQ(Render(kChatMl, kTalk),
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\nWhat is a block?<|im_end|>\n"
            "<|im_start|>assistant\n16 tokens.<|im_end|>\n"
            "<|im_start|>user\nAnd a <b>table</b>?<|im_end|>\n"
            "<|im_start|>assistant\n");
  ChatRenderOptions options;
  options.add_generation_prompt = false;
  EXPECT_EQ(Render(kChatMl, {{"user", "Hi", ""}}, options),
            "<|im_start|>user\nHi<|im_end|>\n");
}

TEST(ChatTemplateTest, RendersTheLlama3Shape) {
  const std::string source = R"({{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Tools: " + (tools | map(attribute='name') | join(', ')) + "\n" }}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'
        + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
)";
  EXPECT_EQ(Render(source, {kTalk[0], kTalk[1]}),
            "<s><|start_header_id|>system<|end_header_id|>\n\n"
            "Be brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n"
            "What is a block?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  ChatRenderOptions options;
  options.variables_json = R"({"tools": [{"name": "add"}, {"name": "mul"}]})";
  const std::string with_tools = Render(source, {kTalk[1]}, options);
  EXPECT_NE(with_tools.find("Tools: add, mul\n"), std::string::npos);
}

TEST(ChatTemplateTest, RendersTheLlama2ShapeAndItsRefusal) {
  const std::string source =
      "{% for message in messages %}"
      "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
      "{{ raise_exception('Roles must alternate: user, assistant') }}"
      "{% endif %}"
      "{% if message['role'] == 'user' %}"
      "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
      "{% elif message['role'] == 'assistant' %}"
      "{{ ' ' + message['content'].strip() + ' ' + eos_token }}"
      "{% endif %}{% endfor %}";
  EXPECT_EQ(Render(source, {kTalk[1], kTalk[2], kTalk[3]}),
            "<s>[INST] What is a block? [/INST] 16 tokens. </s>"
            "<s>[INST] And a <b>table</b>? [/INST]");
  ExpectInvalid(RenderStatus(source, {kTalk[1], kTalk[1]}),
                "Roles must alternate: user, assistant");
}

TEST(ChatTemplateTest, ToJsonWritesWhatPythonWrites) {
  ChatRenderOptions options;
  options.variables_json =
      R"({"v": {"b": [1, 2.5, 1e30, true, null], "a": "<é'\"\n>", "e": {}}})";
  EXPECT_EQ(Render("{{ v | tojson }}", {}, options),
            R"({"b": [1, 2.5, 1e+30, true, null], "a": "<é'\"\n>", "e": {}})");
  EXPECT_EQ(Render("{{ v.b[:2] | tojson(indent=2) }}", {}, options),
            "[\n  1,\n  2.5\n]");
  EXPECT_EQ(Render("{{ {'b': 1, 'a': '\u00e9\U0001F600'}"
                   " | tojson(ensure_ascii=true, sort_keys=true) }}"),
            R"({"a": "\u00e9\ud83d\ude00", "b": 1})");
}

TEST(ChatTemplateTest, ValuesPrintAsPythonPrintsThem) {
  EXPECT_EQ(Render("{{ true }} {{ none }} {{ 1.0 }} {{ 1e16 }} {{ 7 }}"),
            "True None 1.0 1e+16 7");
  EXPECT_EQ(Render("{{ ['a', \"it's\", none, {'k': false}] }}"),
            R"(['a', "it's", None, {'k': False}])");
  EXPECT_EQ(Render("[{{ missing }}]"), "[]");
}

TEST(ChatTemplateTest, PythonMethodsWork) {
  EXPECT_EQ(Render("{{ ' x '.strip() }}|{{ 'a-b'.split('-')[-1] }}|"
                   "{{ 'ab'.upper() }}|{{ 'xay'.replace('a', 'b') }}|"
                   "{{ 'ab'.startswith('a') }}"),
            "x|b|AB|xby|True");
  EXPECT_EQ(Render("{% for k, v in {'a': 1, 'b': 2}.items() %}"
                   "{{ k }}={{ v }};{% endfor %}"),
            "a=1;b=2;");
  EXPECT_EQ(Render("{% set ns = namespace(n=0) %}{% for i in range(9) %}"
                   "{% if i == 4 %}{% break %}{% endif %}"
                   "{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}"),
            "6");
}

TEST(ChatTemplateTest, BlocksAreTrimmedAsTransformersDoes) {
  EXPECT_EQ(Render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
}

TEST(ChatTemplateTest, TrainingMarksWriteNothing) {
  EXPECT_EQ(Render("{% for m in messages %}{%- generation -%}"
                   " {{ m.content }} {%- endgeneration -%} {% endfor %}",
                   {{"assistant", "yes", ""}}),
            "yes");
}

TEST(ChatTemplateTest, StrftimeNowTellsTheGivenTime) {
  ChatRenderOptions options;
  options.now = absl::FromUnixSeconds(1'700'000'000);  // 14 November 2023
  ASSERT_EQ(setenv("TZ", "UTC", /*overwrite=*/1), 0);
  EXPECT_EQ(Render("{{ strftime_now('%d %b %Y') }}", {}, options),
            "14 Nov 2023");
  EXPECT_EQ(Render("[{{ strftime_now('') }}]", {}, options), "[]");
}

TEST(ChatTemplateTest, MessagesMayHaveFurtherFields) {
  EXPECT_EQ(Render("{{ messages[0].tool_calls[0].name }}",
                   {{"assistant", "", R"({"tool_calls": [{"name": "f"}]})"}}),
            "f");
}

TEST(ChatTemplateTest, TemplatesInsideMessagesStayText) {
  EXPECT_EQ(Render("{{ messages[0].content }}",
                   {{"user", "{{ 7 * 7 }}{% raw %}{#", ""}}),
            "{{ 7 * 7 }}{% raw %}{#");
}

TEST(ChatTemplateTest, SyntaxErrorsNameTheLine) {
  const auto bad = ChatTemplate::FromString("fine\nfine\n{% for %}\n");
  ExpectInvalid(bad.status(), "line 3");
  ExpectInvalid(ChatTemplate::FromString("{{ \xFF }}").status(), "UTF-8");
}

TEST(ChatTemplateTest, FailuresNameTheLine) {
  ExpectInvalid(RenderStatus("one\n{{ missing.field.deeper }}"), "line 2");
  ExpectInvalid(RenderStatus("one\ntwo\n{{ [1] + 2 }}"), "line 3");
  ExpectInvalid(RenderStatus("{{ no_such_function() }}"), "no_such_function");
}

TEST(ChatTemplateTest, EndlessLoopsRunOutOfFuel) {
  ExpectInvalid(RenderStatus("{% for a in range(10000) %}"
                             "{% for b in range(10000) %}{% endfor %}"
                             "{% endfor %}"),
                "too many steps");
  // The next rendering has a full tank.
  const auto once =
      Compile("{% for i in range(messages[0].content|int) %}{% endfor %}done");
  for (int i = 0; i < 20; ++i) {
    const auto text = once->Render({{{"user", "20000", ""}}});
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, "done");
  }
}

TEST(ChatTemplateTest, EndlessRecursionIsStopped) {
  ExpectInvalid(RenderStatus("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
                "chat template");
}

TEST(ChatTemplateTest, OutputIsBounded) {
  ChatRenderOptions options;
  options.max_output_bytes = 100;
  ExpectInvalid(RenderStatus("{{ 'x' * 101 }}", {}, options), "100 bytes");
  EXPECT_EQ(Render("{{ 'x' * 100 }}", {}, options), std::string(100, 'x'));
}

TEST(ChatTemplateTest, VariablesCannotReplaceQuiresOwn) {
  for (const char* name : {"messages", "bos_token", "add_generation_prompt"}) {
    ChatRenderOptions options;
    options.variables_json = "{\"" + std::string(name) + "\": 1}";
    ExpectInvalid(RenderStatus("x", {}, options), name);
  }
  ExpectInvalid(RenderStatus("x", {{"user", "", R"({"role": "system"})"}}),
                "role");
}

TEST(ChatTemplateTest, BadInputIsRefused) {
  ChatRenderOptions options;
  options.variables_json = "[1]";
  ExpectInvalid(RenderStatus("x", {}, options), "not a JSON object");
  options.variables_json = "{\"a\": " + std::string(100'000, '[');
  ExpectInvalid(RenderStatus("x", {}, options), "nested");
  ExpectInvalid(RenderStatus("x", {{"user", "\xFF", ""}}), "messages[0]");
  ExpectInvalid(RenderStatus("x", {{"user", "", "{"}}), "messages[0]");
}

class ChatTemplateFileTest : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + name) << text;
  }

  const std::string folder_ = [] {
    std::string folder = testing::TempDir() + "/chat_template_XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    return folder + "/";
  }();
  const std::string config_ = folder_ + "tokenizer_config.json";
};

TEST_F(ChatTemplateFileTest, ReadsTheTemplateAndItsTokensFromTheConfig) {
  Write("tokenizer_config.json",
        R"({"bos_token": {"content": "<B>"}, "eos_token": null,
            "chat_template": "{{ bos_token }}{{ eos_token }}!"})");
  const auto found = ChatTemplate::FromTokenizerConfig(config_);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*(*found)->Render({}), "<B>!");
}

TEST_F(ChatTemplateFileTest, TakesTheDefaultOfAList) {
  Write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool_use", "template": "t"},
                              {"name": "default", "template": "d"}]})");
  const auto found = ChatTemplate::FromTokenizerConfig(config_);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*(*found)->Render({}), "d");
}

TEST_F(ChatTemplateFileTest, AFileBesideTheConfigGoesFirst) {
  Write("tokenizer_config.json", R"({"chat_template": "config"})");
  Write("chat_template.jinja", "file");
  const auto found = ChatTemplate::FromTokenizerConfig(config_);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*(*found)->Render({}), "file");
}

TEST_F(ChatTemplateFileTest, SaysWhichFileIsAtFault) {
  EXPECT_EQ(ChatTemplate::FromTokenizerConfig(config_).status().code(),
            absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", "{}");
  EXPECT_EQ(ChatTemplate::FromTokenizerConfig(config_).status().code(),
            absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", R"({"chat_template": 3})");
  ExpectInvalid(ChatTemplate::FromTokenizerConfig(config_).status(), config_);
  Write("chat_template.jinja", "{% if %}");
  ExpectInvalid(ChatTemplate::FromTokenizerConfig(config_).status(),
                "chat_template.jinja");
}

TEST(ChatTemplateTest, TheLastMessageIsLeftOpenToBeContinued) {
  ChatRenderOptions options;
  options.add_generation_prompt = false;
  options.continue_final_message = true;
  const std::string keeps =
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}";
  const std::string trims =
      "{% for m in messages %}[{{ m.role }}]{{ m.content.strip() }}</s>"
      "{% endfor %}";
  const std::vector<ChatMessage> talk = {{"user", "A poem?", ""},
                                         {"assistant", "Roses are ", ""}};
  EXPECT_EQ(Render(keeps, talk, options),
            "[user]A poem?</s>[assistant]Roses are ");
  EXPECT_EQ(Render(trims, talk, options),
            "[user]A poem?</s>[assistant]Roses are");
  const std::string drops = "{{ messages[0].content }}";
  ExpectInvalid(RenderStatus(drops, talk, options), "does not show the last");
  ExpectInvalid(RenderStatus(keeps, {}, options), "no text to continue");
  std::vector<ChatMessage> null = talk;
  null[1].content_json = "null";
  ExpectInvalid(RenderStatus(keeps, null, options), "no text to continue");
  std::vector<ChatMessage> parts = talk;
  parts[1].content_json = R"([{"type": "text", "text": "Roses"}])";
  EXPECT_EQ(Render("{% for m in messages %}{% if m.content is string %}"
                   "{{ m.content }}{% else %}{{ m.content[0].text }}!"
                   "{% endif %}{% endfor %}",
                   parts, options),
            "A poem?Roses");
}

TEST(ChatTemplateTest, KnowsWhetherItReadsParts) {
  EXPECT_FALSE(Compile("{% for m in messages %}{{ m.content }}{% endfor %}")
                   ->reads_parts());
  EXPECT_FALSE(
      Compile("{% for m in messages %}{{ m.content|trim }}{% endfor %}")
          ->reads_parts());
  EXPECT_FALSE(Compile("{{ messages[0].content + '' }}")->reads_parts());
  EXPECT_TRUE(Compile("{% for m in messages %}{% for p in m.content %}"
                      "{{ p.text }}{% endfor %}{% endfor %}")
                  ->reads_parts());
}

TEST(ChatTemplateTest, AnErrorIsOneLine) {
  const absl::Status status = RenderStatus(
      "first\n{{ raise_exception('roles must\nalternate') }}", kTalk);
  ExpectInvalid(status, "roles must alternate (line 2)");
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace quire
