// SPDX-License-Identifier: Apache-2.0
#include "common/text/special_token_names.h"

#include <gtest/gtest.h>

namespace quire {
namespace {

TEST(SpecialTokenNamesTest, ReadsStringsAndObjectsAndSkipsNull) {
  const auto names = ParseSpecialTokenNames(
      R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": true},
          "pad_token": null, "other": 3})");
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_EQ(*names,
            (SpecialTokenNames{{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
}

TEST(SpecialTokenNamesTest, OtherTypesAreRefusedByRole) {
  for (const char* value : {"1", "[]", "{}", "{\"content\": 1}", "true"}) {
    const absl::Status status =
        ParseSpecialTokenNames("{\"mask_token\": " + std::string(value) + "}")
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << value;
    EXPECT_NE(status.message().find("mask_token"), std::string::npos);
  }
}

}  // namespace
}  // namespace quire
