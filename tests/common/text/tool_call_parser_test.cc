// SPDX-License-Identifier: Apache-2.0
#include "common/text/tool_call_parser.h"

#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

struct Parsed {
  std::string text;
  // "name:arguments" of each call, ";" between them.
  std::string calls;
  std::vector<std::string> ids;

  bool operator==(const Parsed&) const = default;
};

void Take(const ToolCallOutput& output, Parsed* parsed) {
  parsed->text += output.text;
  for (const ToolCallPiece& piece : output.calls) {
    if (piece.index == static_cast<int32_t>(parsed->ids.size())) {
      EXPECT_FALSE(piece.name.empty());
      parsed->calls += (parsed->calls.empty() ? "" : ";") + piece.name + ":";
      parsed->ids.push_back(piece.id);
    } else {
      EXPECT_EQ(piece.name + piece.id, "");
      EXPECT_EQ(piece.index + 1, static_cast<int32_t>(parsed->ids.size()));
    }
    parsed->calls += piece.arguments;
  }
}

// Parses `parts` one after the other.
Parsed Parse(ToolCallFormat format, const std::vector<std::string>& parts) {
  ToolCallParser parser(format, /*id_seed=*/7);
  Parsed parsed;
  for (const std::string& part : parts) Take(parser.Append(part), &parsed);
  Take(parser.Finish(), &parsed);
  EXPECT_EQ(parser.num_calls(), static_cast<int32_t>(parsed.ids.size()));
  return parsed;
}

// The same, whole, and cut in two and in three at every byte.
Parsed ParseEveryWay(ToolCallFormat format, const std::string& text) {
  const Parsed whole = Parse(format, {text});
  std::vector<std::string> bytes;
  for (const char c : text) bytes.push_back(std::string(1, c));
  EXPECT_EQ(Parse(format, bytes), whole) << text;
  for (size_t a = 0; a <= text.size(); ++a) {
    for (size_t b = a; b <= text.size(); b += a == b ? 1 : 7) {
      EXPECT_EQ(Parse(format, {text.substr(0, a), text.substr(a, b - a),
                               text.substr(b)}),
                whole)
          << text << " cut at " << a << " and " << b;
    }
  }
  return whole;
}

struct Case {
  std::string input;
  std::string text;
  std::string calls;
};

void Check(ToolCallFormat format, const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    const Parsed parsed = ParseEveryWay(format, each.input);
    EXPECT_EQ(parsed.text, each.text) << each.input;
    EXPECT_EQ(parsed.calls, each.calls) << each.input;
  }
}

TEST(ToolCallParserTest, HermesCallsStandBetweenTags) {
  Check(ToolCallFormat::kHermes,
        {
            {"Plain <b>text</b>, 1 < 2.\n", "Plain <b>text</b>, 1 < 2.\n", ""},
            {R"(<tool_call>
{"name": "weather", "arguments": {"city": "Zürich", "days": 1e2}}
</tool_call>)",
             "", R"(weather:{"city": "Zürich", "days": 1e2})"},
            {R"(Let me look.

<tool_call>{"name":"a","arguments":{}}</tool_call>
<tool_call>{"arguments": {"x": "</tool_call>"}, "name": "b"}</tool_call>

Done.)",
             "Let me look.\n\nDone.", R"(a:{};b:{"x": "</tool_call>"})"},
            // The model stopped before the tag's end.
            {R"(<tool_call>{"name":"a","arguments":{"k":[1,2]}})", "",
             R"(a:{"k":[1,2]})"},
            {R"(<tool_call>{"name":"a","arguments":{}}</tool)", "", "a:{}"},
            // An object in quotes.
            {R"(<tool_call>{"name":"a","arguments":"{\"k\": 1}"}</tool_call>)",
             "", R"(a:{"k": 1})"},
        });
}

TEST(ToolCallParserTest, WhatIsNoHermesCallIsText) {
  std::vector<Case> cases;
  for (const std::string text : {
           R"(<tool_call>{"name": "a", "arguments": {)",
           R"(<tool_call>{"name": "a"}</tool_call>)",
           R"(<tool_call>{"name": 1, "arguments": {}}</tool_call>)",
           R"(<tool_call>{"name": "", "arguments": {}}</tool_call>)",
           R"(<tool_call>{"name": "a", "arguments": [1]}</tool_call>)",
           R"(<tool_call>{"name": "a", "arguments": "x"}</tool_call>)",
           R"(<tool_call>{'name': 'a', 'arguments': {}}</tool_call> after)",
           R"(<tool_call>[{"name": "a", "arguments": {}}]</tool_call>)",
           R"(<tool_call>call a</tool_call>)",
           "<tool_call>",
           "<tool_ca",
           "a < b",
           " \n ",
       }) {
    cases.push_back({text, text, ""});
  }
  Check(ToolCallFormat::kHermes, cases);
}

TEST(ToolCallParserTest, ACallThatBreaksKeepsWhatItHasGot) {
  Check(ToolCallFormat::kHermes,
        {
            {R"(<tool_call>{"name": "a", "arguments": {"k": "v)", "",
             R"(a:{"k": "v)"},
            {R"(<tool_call>{"name": "a", "arguments": {"k": nil}} no)",
             "il}} no", R"(a:{"k": n)"},
            {R"(<tool_call>{"name": "a", "arguments": {}} rest)", " rest",
             "a:{}"},
            {R"(<tool_call>{"name": "a", "arguments": {}, x}</tool_call>)",
             "x}</tool_call>", "a:{}"},
            {R"(<tool_call>{"name": "a", "arguments": {"k)"
             "\n<tool_call>{\"name\":\"b\",\"arguments\":{}}</tool_call>",
             "", R"(a:{"k;b:{})"},
        });
  Check(ToolCallFormat::kLlama3,
        {{R"({"name": "f", "parameters": {})", "", "f:{}"},
         {R"({"name": "f", "parameters": {"a": 01}})", "1}}", R"(f:{"a": 0)"}});
  Check(
      ToolCallFormat::kMistral,
      {{R"([TOOL_CALLS] [{"name": "f", "arguments": {}}, 3])", ", 3]", "f:{}"},
       {R"([TOOL_CALLS] [{"name": "f", "arguments": {}}, )", "", "f:{}"},
       {R"([TOOL_CALLS]f[ARGS]{"a": [1, 2)", "", R"(f:{"a": [1, 2)"}});
}

TEST(ToolCallParserTest, ArgumentsComeWhileTheyAreWritten) {
  for (const auto& [format, begin, end] :
       {std::tuple(ToolCallFormat::kHermes,
                   R"(<tool_call>{"name": "a", "arguments": )",
                   "}</tool_call>"),
        std::tuple(ToolCallFormat::kLlama3, R"({"name": "a", "parameters": )",
                   "}"),
        std::tuple(ToolCallFormat::kMistral,
                   R"([TOOL_CALLS] [{"name": "a", "arguments": )", "}]"),
        std::tuple(ToolCallFormat::kMistral, "[TOOL_CALLS]a[ARGS]", "")}) {
    ToolCallParser parser(format);
    ASSERT_TRUE(parser.Append(begin).calls.empty());
    std::string arguments;
    for (const std::string piece : {R"({"te)", R"(xt": "lo)", R"(ng"})"}) {
      const ToolCallOutput output = parser.Append(piece);
      ASSERT_EQ(output.calls.size(), 1u) << piece;
      EXPECT_EQ(output.calls[0].name, arguments.empty() ? "a" : "");
      EXPECT_EQ(output.calls[0].id.empty(), !arguments.empty());
      EXPECT_EQ(output.calls[0].arguments, piece);
      arguments += output.calls[0].arguments;
    }
    EXPECT_TRUE(parser.Append(end).calls.empty());
    EXPECT_EQ(parser.Finish().text, "");
  }
}

// Calls with some bytes changed, taken out or brought in, cut at random.
TEST(ToolCallParserTest, HoweverAnAnswerIsCutItIsTheSameInSum) {
  const std::pair<ToolCallFormat, std::string> answers[] = {
      {ToolCallFormat::kHermes,
       R"(Hm. <tool_call>{"id": "x", "name": "a", "arguments": {"k": [1, "é"]}})"
       R"(</tool_call> <tool_call>{"arguments": {}, "name": "b"}</tool_call>)"},
      {ToolCallFormat::kLlama3,
       R"({"name": "a", "parameters": {"k": {"l": null}}}; )"
       R"(<|python_tag|>{"name": "b", "parameters": "{\"q\": 1}"})"},
      {ToolCallFormat::kMistral,
       R"([TOOL_CALLS] [{"name": "a", "arguments": {"k": "]}"}}, )"
       R"({"name": "b", "arguments": {"l": -1.5e3}}])"},
      {ToolCallFormat::kMistral,
       R"(Hm.[TOOL_CALLS]a[ARGS]{"k": 1}[TOOL_CALLS]b{"l": {}} end)"}};
  std::mt19937 random(4);
  int num_with_calls = 0;
  for (int round = 0; round < 3000; ++round) {
    auto [format, text] = answers[round % 4];
    for (size_t i = random() % 4; i > 0; --i) {
      const size_t at = random() % text.size();
      const char byte = "{}[]\",:;\\<a1 "[random() % 13];
      if (random() % 3 == 0)
        text.erase(at, 1 + random() % 5);
      else if (random() % 2 == 0)
        text.insert(at, 1, byte);
      else
        text[at] = byte;
    }
    std::vector<std::string> parts;
    for (size_t at = 0; at < text.size();) {
      parts.push_back(text.substr(at, 1 + random() % 12));
      at += parts.back().size();
    }
    const Parsed whole = Parse(format, {text});
    EXPECT_EQ(Parse(format, parts), whole) << text;
    num_with_calls += !whole.ids.empty();
  }
  EXPECT_GT(num_with_calls, 1500);
}

TEST(ToolCallParserTest, ACallAfterABrokenOneIsFound) {
  Check(ToolCallFormat::kHermes,
        {{R"(<tool_call>
<tool_call>{"name":"a","arguments":{}}</tool_call>)",
          "<tool_call>\n", "a:{}"},
         {R"(<tool_call>{"name":}</tool_call>
<tool_call>{"name":"a","arguments":{}}</tool_call>)",
          R"(<tool_call>{"name":}</tool_call>)", "a:{}"}});
}

TEST(ToolCallParserTest, Llama3CallsAreBareOrMarked) {
  Check(ToolCallFormat::kLlama3,
        {
            {R"({"name": "f", "parameters": {"q": "x; y"}})", "",
             R"(f:{"q": "x; y"})"},
            {R"( {"type": "function", "name": "f", "parameters": {}})", "",
             "f:{}"},
            {R"(<|python_tag|>{"name": "f", "arguments": {"a": 1}})", "",
             R"(f:{"a": 1})"},
            {R"({"name":"f","parameters":{}}; {"name":"g","parameters":{}})",
             "", "f:{};g:{}"},
            {"{\"name\":\"f\",\"parameters\":{}}\n"
             "<|python_tag|>{\"name\":\"g\",\"parameters\":{}}\n",
             "", "f:{};g:{}"},
            {R"(I will. <|python_tag|>{"name":"f","parameters":{}})", "I will.",
             "f:{}"},
        });
}

TEST(ToolCallParserTest, WhatIsNoLlama3CallIsText) {
  std::vector<Case> cases;
  for (const std::string text : {
           R"({"name": "Bob", "age": 3})",
           R"({"city": "Zürich"} is the answer)",
           R"(The call {"name": "f", "parameters": {}} is bare)",
           R"(<|python_tag|>search.call(query="x"))",
           R"(<|python_tag|>print(1))",
           R"({"name": "f", "parameters": nul})",
       }) {
    cases.push_back({text, text, ""});
  }
  cases.push_back(
      {R"({"name":"f","parameters":{}}; and more)", "; and more", "f:{}"});
  Check(ToolCallFormat::kLlama3, cases);
}

TEST(ToolCallParserTest, MistralCallsFollowTheirMark) {
  Check(ToolCallFormat::kMistral,
        {
            {R"([TOOL_CALLS] [{"name": "f", "arguments": {"a": "]"}}, )"
             R"({"name": "g", "arguments": {}, "id": "abcdefghi"}])",
             "", R"(f:{"a": "]"};g:{})"},
            {R"(Wait.[TOOL_CALLS][{"name":"f","arguments":{}}] )", "Wait.",
             "f:{}"},
            {R"([TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g.h{"b":2})", "",
             R"(f:{"a": 1};g.h:{"b":2})"},
        });
}

TEST(ToolCallParserTest, WhatIsNoMistralCallIsText) {
  std::vector<Case> cases;
  for (const std::string text : {
           "[TOOL_CALLS]",
           "[TOOL_CALLS] nothing, really",
           "[TOOL_CALLS] []",
           R"([TOOL_CALLS] [{"name": "f"}])",
           "[TOOL_CALLS]f[ARGS]",
           "[TOOL_CALLS]f[ARGS][1]",
           "a [link](x)",
       }) {
    cases.push_back({text, text, ""});
  }
  cases.push_back({"[TOOL_CALLS]" + std::string(65, 'f') + "{}",
                   "[TOOL_CALLS]" + std::string(65, 'f') + "{}", ""});
  Check(ToolCallFormat::kMistral, cases);
}

TEST(ToolCallParserTest, TextIsNotHeldBackLongerThanItMayBeACall) {
  ToolCallParser parser(ToolCallFormat::kHermes);
  EXPECT_EQ(parser.Append("one <tool").text, "one");
  EXPECT_EQ(parser.Append("box>").text, " <toolbox>");
  EXPECT_EQ(parser.Append(" <tool_call>{").text, "");
  // No key begins so: it has been text all along.
  EXPECT_EQ(parser.Append("x").text, " <tool_call>{x");
  EXPECT_EQ(parser.Append("y").text, "y");
}

TEST(ToolCallParserTest, IdsAreTheModelsOrNew) {
  const Parsed hermes = Parse(
      ToolCallFormat::kHermes,
      {R"(<tool_call>{"name":"a","arguments":{}}</tool_call>)"
       R"(<tool_call>{"id": "own", "name":"a","arguments":{}}</tool_call>)"});
  EXPECT_EQ(hermes.ids,
            (std::vector<std::string>{"call_0000000000000007_0", "own"}));
  // Mistral's own templates take ids of nine letters and digits alone.
  const Parsed mistral = Parse(ToolCallFormat::kMistral,
                               {R"([TOOL_CALLS][{"name":"a","arguments":{}},)"
                                R"({"name":"b","arguments":{}}])"});
  ASSERT_EQ(mistral.ids.size(), 2u);
  EXPECT_NE(mistral.ids[0], mistral.ids[1]);
  for (const std::string& id : mistral.ids) {
    EXPECT_EQ(id.size(), 9u);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz"
                                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
              std::string::npos);
  }
}

TEST(ToolCallParserTest, WithoutAFormatEverythingIsText) {
  const std::string text =
      R"( <tool_call>{"name":"a","arguments":{}}</tool_call> )";
  EXPECT_EQ(Parse(ToolCallFormat::kNone, {text}).text, text);
}

TEST(ToolCallParserTest, FormatsAreNamedAndKnownByTheirTemplates) {
  for (const ToolCallFormat format :
       {ToolCallFormat::kNone, ToolCallFormat::kHermes, ToolCallFormat::kLlama3,
        ToolCallFormat::kMistral}) {
    EXPECT_EQ(*ParseToolCallFormat(ToolCallFormatName(format)), format);
  }
  EXPECT_FALSE(ParseToolCallFormat("python").ok());
  EXPECT_EQ(DetectToolCallFormat("{{ '<tool_call>' }}"),
            ToolCallFormat::kHermes);
  EXPECT_EQ(DetectToolCallFormat("{{ '<|python_tag|>' }}"),
            ToolCallFormat::kLlama3);
  EXPECT_EQ(DetectToolCallFormat("[TOOL_CALLS]"), ToolCallFormat::kMistral);
  EXPECT_EQ(DetectToolCallFormat("<|im_start|>"), ToolCallFormat::kNone);
  // Each mark that a parser looks for is one to show.
  EXPECT_EQ(ToolCallMarks(ToolCallFormat::kMistral).size(), 2u);
}

}  // namespace
}  // namespace quire
