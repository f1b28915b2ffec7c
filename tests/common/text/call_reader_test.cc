// SPDX-License-Identifier: Apache-2.0
#include "common/text/call_reader.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

// "id/name/arguments" and how it ended: ".", or "!" if it is no call.
std::string Read(CallReader reader, const std::string& text) {
  JsonScanner::State state = JsonScanner::State::kMore;
  std::string arguments;
  for (const char c : text) {
    if (state != JsonScanner::State::kMore) break;
    state = reader.Push(c);
    arguments += reader.TakeArguments();
  }
  return reader.id() + "/" + reader.name() + "/" + arguments +
         (state == JsonScanner::State::kDone  ? "."
          : state == JsonScanner::State::kBad ? "!"
                                              : "");
}

TEST(CallReaderTest, KeysComeInAnyOrder) {
  for (const char* text :
       {R"({"id": "7", "name": "f", "arguments": {"a": {"name": "x"}}})",
        R"({"arguments": {"a": {"name": "x"}}, "name": "f", "id": "7"})",
        R"({"x": [{"name": "y"}], "name": "f", "parameters":)"
        R"({"a": {"name": "x"}}, "id": "7"})"}) {
    EXPECT_EQ(Read(CallReader(), text), R"(7/f/{"a": {"name": "x"}}.)") << text;
  }
}

TEST(CallReaderTest, TheFirstValueOfAKeyCounts) {
  EXPECT_EQ(Read(CallReader(), R"({"name": "f", "parameters": {}, "name": "g",
                                   "arguments": {"a": 1}})"),
            "/f/{}.");
}

TEST(CallReaderTest, KeysAndNamesMayBeEscaped) {
  EXPECT_EQ(Read(CallReader(),
                 R"({"na\u006de": "\u0066", "arguments": {"\u0061": 1}})"),
            R"(/f/{"\u0061": 1}.)");
}

TEST(CallReaderTest, AnObjectInQuotesIsTheArguments) {
  EXPECT_EQ(Read(CallReader(), R"({"name": "f", "arguments": "{\"a\": 1}"})"),
            R"(/f/{"a": 1}.)");
  EXPECT_EQ(Read(CallReader(), R"({"name": "f", "arguments": "[1]"})"), "/f/!");
}

TEST(CallReaderTest, WhatHasNoNameOrNoArgumentsIsNoCall) {
  for (const char* text :
       {R"({"name": "f"})", R"({"arguments": {}})",
        R"({"name": 1, "arguments": {}})", R"({"name": "", "arguments": {}})",
        R"({"name": "f", "arguments": []})", R"({"name": "f", "arguments": 3})",
        "[1]", "{}"}) {
    const std::string read = Read(CallReader(), text);
    EXPECT_EQ(read.back(), '!') << text;
  }
}

TEST(CallReaderTest, ACallIsKnownByTheFirstByteInsideOfItsArguments) {
  CallReader reader;
  for (const char c : std::string(R"({"name": "f", "arguments": { )")) {
    ASSERT_EQ(reader.Push(c), JsonScanner::State::kMore);
    EXPECT_FALSE(reader.is_call());
  }
  ASSERT_EQ(reader.Push('"'), JsonScanner::State::kMore);
  EXPECT_TRUE(reader.is_call());
  EXPECT_EQ(reader.TakeArguments(), "{ \"");
}

TEST(CallReaderTest, BareArgumentsAreOfTheNameThatCameBefore) {
  EXPECT_EQ(Read(CallReader("f"), R"({"a": {"b": [{}]}})"),
            R"(/f/{"a": {"b": [{}]}}.)");
  EXPECT_EQ(Read(CallReader("f"), "{1}").back(), '!');
}

}  // namespace
}  // namespace quire
