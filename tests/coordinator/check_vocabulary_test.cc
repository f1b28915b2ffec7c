// SPDX-License-Identifier: Apache-2.0
#include "coordinator/check_vocabulary.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(CheckVocabularyTest, TheModelMayBeWiderThanTheTokenizer) {
  EXPECT_TRUE(
      CheckVocabulary("m", 128, 100, [](TokenId) { return true; }).ok());
  EXPECT_TRUE(
      CheckVocabulary("m", 100, 100, [](TokenId) { return true; }).ok());
}

TEST(CheckVocabularyTest, ControlTokensBeyondTheEmbeddingDoNoHarm) {
  EXPECT_TRUE(
      CheckVocabulary("m", 100, 103, [](TokenId id) { return id < 100; }).ok());
}

TEST(CheckVocabularyTest, TokensOfTextBeyondTheEmbeddingAreRefused) {
  const absl::Status status = CheckVocabulary(
      "models/m", 100, 110, [](TokenId id) { return id % 2 == 0; });
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  EXPECT_THAT(message,
              HasSubstr("models/m: tokenizer.json has 5 tokens of text, up to "
                        "id 108, beyond config.json's vocab_size 100"));
  EXPECT_THAT(message, HasSubstr("--skip_tokenizer_init"));
}

}  // namespace
}  // namespace quire
