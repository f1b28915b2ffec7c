// SPDX-License-Identifier: Apache-2.0
//
// Templates in the style of published ones render as transformers renders
// them; tests/golden/make_chat_digests.py says how.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/text/chat_template.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

std::string Digest(const std::string& text) {
  uint64_t value = 0xCBF29CE484222325;
  for (const char c : text) {
    value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  }
  char hex[17];
  snprintf(hex, sizeof(hex), "%016llx", static_cast<unsigned long long>(value));
  return hex;
}

ChatMessage ToMessage(const Json& json) {
  ChatMessage message;
  Json extra = json;
  message.role = json["role"];
  extra.erase("role");
  if (json["content"].is_string()) {
    message.content = json["content"];
  } else {
    message.content_json = json["content"].dump();
  }
  extra.erase("content");
  if (!extra.empty()) message.extra_json = extra.dump();
  return message;
}

ChatRenderOptions ToOptions(const Json& talk, int64_t now) {
  ChatRenderOptions options;
  options.add_generation_prompt = talk["add_generation_prompt"];
  options.continue_final_message = talk.value("continue_final_message", false);
  options.now = absl::FromUnixSeconds(now);
  Json variables = talk.value("kwargs", Json::object());
  for (const char* key : {"tools", "documents"}) {
    if (talk.contains(key)) variables[key] = talk[key];
  }
  options.variables_json = variables.dump();
  return options;
}

TEST(ChatTemplateGoldenTest, TemplatesRenderAsTransformersRendersThem) {
  setenv("TZ", "UTC", 1);
  const Json data = Json::parse(ReadTemplateData("conversations.json"));
  const Json digests = Json::parse(ReadTemplateData("digests.json"));
  SpecialTokenNames names;
  for (const auto& [role, token] : data["special_tokens"].items()) {
    names[role] = token;
  }
  const Json& talks = data["conversations"];
  EXPECT_GE(digests.size(), 25u);
  EXPECT_GE(talks.size(), 8u);
  int num_rendered = 0;
  int num_with_tools = 0;
  int num_templates = 0;  // with at least 8 conversations that were equal
  for (const auto& [name, expected] : digests.items()) {
    const int num_before = num_rendered;
    const auto chat_template =
        ChatTemplate::FromString(ReadTemplateData(name + ".jinja"), names);
    ASSERT_TRUE(chat_template.ok()) << name << ": " << chat_template.status();
    ASSERT_EQ(expected.size(), talks.size());
    for (size_t i = 0; i < talks.size(); ++i) {
      if (expected[i] == "skip") continue;
      std::vector<ChatMessage> messages;
      for (const Json& message : talks[i]["messages"]) {
        messages.push_back(ToMessage(message));
      }
      const auto text =
          (*chat_template)
              ->Render(messages, ToOptions(talks[i], data["now_unix_seconds"]));
      const std::string digest = expected[i];
      if (digest.rfind("error", 0) != 0) {
        EXPECT_TRUE(text.ok()) << name << ", " << i << ": " << text.status();
        if (text.ok()) {
          EXPECT_EQ(Digest(*text), digest)
              << name << ", conversation " << i << ":\n"
              << *text;
          num_rendered += Digest(*text) == digest;
          num_with_tools +=
              Digest(*text) == digest && talks[i].contains("tools");
        }
        continue;
      }
      EXPECT_FALSE(text.ok()) << name << ", " << i << ":\n" << *text;
      if (!text.ok() && digest.size() > 6) {
        EXPECT_THAT(std::string(text.status().message()),
                    testing::HasSubstr(digest.substr(6)));
        EXPECT_THAT(std::string(text.status().message()),
                    testing::HasSubstr("(line "));
      }
    }
    num_templates += num_rendered - num_before >= 8;
  }
  std::cout << num_rendered << " texts of " << digests.size()
            << " templates equal transformers', " << num_with_tools
            << " of them with tools; " << num_templates
            << " templates have 8 or more\n";
  EXPECT_GE(num_templates, 25);
  EXPECT_GE(num_rendered, 440);
  EXPECT_GE(num_with_tools, 100);
}

}  // namespace
}  // namespace quire
