// SPDX-License-Identifier: Apache-2.0
#include "common/text/json_object.h"

#include <gtest/gtest.h>

#include <string>

namespace quire {
namespace {

TEST(JsonObjectTest, KeepsTheOrderOfKeys) {
  const auto value = ParseJsonObject("x", R"({"b": 1, "a": 2})");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->dump(), R"({"b":1,"a":2})");
}

TEST(JsonObjectTest, AnEmptyTextIsAnEmptyObject) {
  EXPECT_EQ(ParseJsonObject("x", "")->dump(), "{}");
}

TEST(JsonObjectTest, AnythingElseIsRefusedByName) {
  for (const std::string text : {"[]", "1", "null", "{", "{}{}", "{\"a\"}"}) {
    const absl::Status status = ParseJsonObject("the field", text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(status.message().rfind("the field", 0), 0) << status;
  }
}

TEST(JsonObjectTest, DepthIsBoundedAndBracketsInStringsDoNotCount) {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(depth - 1, '[') +
           std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(ParseJsonObject("x", nested(64)).ok());
  EXPECT_FALSE(ParseJsonObject("x", nested(65)).ok());
  EXPECT_FALSE(ParseJsonObject("x", nested(1'000'000)).ok());
  EXPECT_TRUE(
      ParseJsonObject("x", "{\"a\":\"\\\"" + std::string(999, '[') + "\"}")
          .ok());
}

}  // namespace
}  // namespace quire
