// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/sequence_guide.h"

#include <string>
#include <vector>

#include "coordinator/gateway/grammar_source.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SequenceGuideTest : public testing::Test {
 protected:
  SequenceGuideTest()
      : tokenizer_(MakeLettersTokenizer()),
        source_(tokenizer_.get(), kLettersVocabSize, {kEosToken}) {}

  absl::StatusOr<Grammar> Compile(const std::string& regex) {
    return source_.Compile({RuleKind::kRegex, regex, "regex"});
  }

  static std::vector<TokenId> Ids(const absl::StatusOr<TokenMask>& mask) {
    EXPECT_TRUE(mask.ok()) << mask.status();
    std::vector<TokenId> ids;
    if (!mask.ok()) return ids;
    for (TokenId id = 0; id < static_cast<TokenId>(32 * mask->size()); ++id) {
      if (((*mask)[id / 32] >> (id % 32) & 1) != 0) ids.push_back(id);
    }
    return ids;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  GrammarSource source_;
};

TEST_F(SequenceGuideTest, TokensLeadFromMaskToMaskAndCopiesAreApart) {
  auto grammar = Compile("ab*c");
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  SequenceGuide guide(*std::move(grammar), {});
  EXPECT_THAT(Ids(guide.Next()), ElementsAre(1));
  ASSERT_TRUE(guide.Accept(Letters("a")).ok());
  auto copy = guide.Clone();
  ASSERT_TRUE(copy.ok());
  ASSERT_TRUE(copy->Accept(Letters("c")).ok());
  EXPECT_THAT(Ids(copy->Next()), ElementsAre(kEosToken));
  EXPECT_THAT(Ids(guide.Next()), ElementsAre(2, 3));
  ASSERT_TRUE(copy->Accept({kEosToken}).ok());
  EXPECT_THAT(Ids(copy->Next()), ElementsAre(kEosToken));
}

TEST_F(SequenceGuideTest, AllowedTokensNarrowTheMaskUntilNothingIsLeft) {
  auto grammar = Compile("[a-e]x");
  ASSERT_TRUE(grammar.ok());
  SequenceGuide guide(*std::move(grammar), Letters("dbz"));
  EXPECT_THAT(Ids(guide.Next()), ElementsAre(2, 4));
  ASSERT_TRUE(guide.Accept(Letters("b")).ok());
  EXPECT_EQ(guide.Next().status().message(),
            "allowed_token_ids holds none of the tokens that "
            "structured_output allows after 1 tokens; allow more of them");
}

TEST_F(SequenceGuideTest, ATokenThatMayNotComeIsAnErrorThatSaysWhere) {
  auto grammar = Compile("ab");
  ASSERT_TRUE(grammar.ok());
  SequenceGuide guide(*std::move(grammar), {});
  ASSERT_TRUE(guide.Accept(Letters("a")).ok());
  const absl::Status status = guide.Accept(Letters("z"));
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("structured_output cannot be followed after 1 tokens: "));
}

TEST_F(SequenceGuideTest, ARefusedRuleIsShownInOneLine) {
  const absl::Status status = Compile("(\n" + std::string(100, 'x')).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("regex ( " + std::string(58, 'x') +
                                 "... cannot be followed: "));
  EXPECT_THAT(message, HasSubstr("; correct or simplify it"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace quire
