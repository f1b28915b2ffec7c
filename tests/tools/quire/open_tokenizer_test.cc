// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/open_tokenizer.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

std::string Refusal(const std::string& model) {
  const auto tokenizer = OpenTokenizer(model);
  EXPECT_FALSE(tokenizer.ok());
  return std::string(tokenizer.status().message());
}

TEST(OpenTokenizerTest, AFolderNeedsATokenizerAlone) {
  const std::string folder = std::string(testing::TempDir()) + "/folder";
  std::filesystem::create_directories(folder);
  std::filesystem::remove(folder + "/tokenizer.json");
  EXPECT_THAT(Refusal(folder), HasSubstr("save_pretrained(\"" + folder));
  std::ofstream(folder + "/tokenizer.json") << "{";
  EXPECT_THAT(Refusal(folder), HasSubstr("tokenizer.json"));
  std::ofstream(folder + "/tokenizer.json") << ReadTestData("gpt2.json");
  const auto tokenizer = OpenTokenizer(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_GT((*tokenizer)->vocab_size(), 256);
}

TEST(OpenTokenizerTest, AMissingFolderIsNamed) {
  EXPECT_EQ(Refusal("/nowhere"), "--model=/nowhere is not a folder");
}

}  // namespace
}  // namespace quire
