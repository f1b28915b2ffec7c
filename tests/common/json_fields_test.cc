// SPDX-License-Identifier: Apache-2.0
#include "common/json_fields.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(JsonFieldsTest, IntegersKeepToTheirRange) {
  const nlohmann::json json = {{"a", 7}, {"b", -1}, {"c", 1.0}};
  const JsonFields fields(json, "x.json");
  EXPECT_EQ(*fields.Int("a", 0, 7), 7);
  EXPECT_FALSE(fields.Int("a", 0, 6).ok());
  EXPECT_FALSE(fields.Int("b", 0, 6).ok());
  EXPECT_FALSE(fields.Int("c", 0, 6).ok());
  EXPECT_EQ(*fields.Int("missing", 0, 6, 3), 3);
  EXPECT_FALSE(fields.Int("missing", 0, 6).ok());
}

TEST(JsonFieldsTest, NumbersTakeIntegersToo) {
  const nlohmann::json json = {{"a", 7}, {"b", 0.5}, {"c", "0.5"}};
  const JsonFields fields(json, "x.json");
  EXPECT_EQ(*fields.Number("a", 0, 10), 7);
  EXPECT_EQ(*fields.Number("b", 0, 10), 0.5);
  EXPECT_FALSE(fields.Number("c", 0, 10).ok());
}

TEST(JsonFieldsTest, MessagesSayFileFieldFoundAndExpected) {
  const nlohmann::json json = {{"a", {{"b", "seven"}}}};
  const JsonFields fields(json["a"], "x.json: a");
  EXPECT_EQ(fields.Int("b", 0, 9).status().message(),
            "x.json: a: \"b\" is \"seven\", expected an integer in [0, 9]");
  EXPECT_EQ(fields.Unsupported("b", "a six").code(),
            absl::StatusCode::kUnimplemented);
}

TEST(JsonFieldsTest, LongValuesAreCut) {
  const nlohmann::json json = {{"a", std::string(1000, 'x')}};
  const absl::Status status = JsonFields(json, "x.json").Wrong("a", "less");
  EXPECT_LT(status.message().size(), 150);
  EXPECT_THAT(status.message(), HasSubstr("xxx..."));
}

TEST(JsonFieldsTest, ParsesOneObjectOnly) {
  EXPECT_TRUE(ParseJsonObject("{}", "x.json").ok());
  EXPECT_THAT(ParseJsonObject("[1]", "x.json").status().message(),
              HasSubstr("x.json: [1], expected one JSON object"));
  EXPECT_THAT(ParseJsonObject("{", "x.json").status().message(),
              HasSubstr("not JSON at byte 1"));
}

TEST(JsonFieldsTest, ABrokenFileIsToldByItsLine) {
  const auto message = [](absl::string_view text) {
    return std::string(ParseJsonObject(text, "x.json").status().message());
  };
  EXPECT_EQ(message("{\n  \"a\": 1,\n  \"b\": oops\n}\n"),
            "x.json: not JSON at line 3, expected one JSON object");
  // The comma after the last field is found at what follows it.
  EXPECT_THAT(message("{\n\"a\": 1,\n}"), HasSubstr("at line 3,"));
  EXPECT_THAT(message("{\n\"a\": \"unfinished\n}"), HasSubstr("at line 2,"));
  // Cut short: at its end.
  EXPECT_THAT(message("{\n\"a\": [\n1,"), HasSubstr("at line 3,"));
  EXPECT_THAT(message("{}\n\n{}"), HasSubstr("at line 3,"));
  EXPECT_THAT(message(""), HasSubstr("not JSON at byte 0,"));
}

}  // namespace
}  // namespace quire
