// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/grammar_source.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/text/grammar.h"
#include "common/text/tokenizer.h"
#include "common/wire/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class GrammarSourceTest : public testing::Test {
 protected:
  GrammarSourceTest()
      : tokenizer_(MakeLettersTokenizer()),
        source_(tokenizer_.get(), kLettersVocabSize, {kEosToken}) {}

  // What a client reads of a rule that cannot be followed.
  std::string Complaint(const TextStructure& structure) {
    const absl::Status status = source_.Compile(structure).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    const ErrorDetails details = GetErrorDetails(status);
    EXPECT_EQ(details.reason, "INVALID_PARAMETER");
    EXPECT_EQ(details.field_violations.size(), 1);
    if (details.field_violations.size() != 1) return "";
    EXPECT_EQ(details.field_violations[0].field,
              "sampling.structured_output." + structure.name);
    return details.field_violations[0].description;
  }

  const std::unique_ptr<Tokenizer> tokenizer_;
  GrammarSource source_;
};

TextStructure Regex(const std::string& rule) {
  return {.kind = RuleKind::kRegex, .rule = rule, .name = "regex"};
}

bool Allows(const std::vector<uint32_t>& words, TokenId token) {
  return token / 32 < static_cast<int64_t>(words.size()) &&
         (words[token / 32] >> (token % 32) & 1) != 0;
}

TEST_F(GrammarSourceTest, ARuleAllowsTheTokensThatFollowItAndTheEnd) {
  absl::StatusOr<Grammar> grammar = source_.Compile(Regex("ab?"));
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  auto words = grammar->NextTokens();
  ASSERT_TRUE(words.ok()) << words.status();
  for (TokenId token = 0; token < kLettersVocabSize; ++token) {
    EXPECT_EQ(Allows(*words, token), token == Letters("a")[0]) << token;
  }
  ASSERT_TRUE(grammar->Accept(Letters("a")).ok());
  words = grammar->NextTokens();
  ASSERT_TRUE(words.ok()) << words.status();
  for (TokenId token = 0; token < kLettersVocabSize; ++token) {
    EXPECT_EQ(Allows(*words, token),
              token == Letters("b")[0] || token == kEosToken)
        << token;
  }
}

TEST_F(GrammarSourceTest, GrammarsOfOneSourceDoNotKnowOfEachOther) {
  absl::StatusOr<Grammar> first = source_.Compile(Regex("ab"));
  absl::StatusOr<Grammar> second = source_.Compile(Regex("cd"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_TRUE(first->Accept(Letters("a")).ok());
  const auto words = second->NextTokens();
  ASSERT_TRUE(words.ok());
  EXPECT_TRUE(Allows(*words, Letters("c")[0]));
  EXPECT_FALSE(Allows(*words, Letters("b")[0]));
}

TEST_F(GrammarSourceTest, AComplaintNamesTheFieldTheRuleAndTheRemedy) {
  const std::string complaint = Complaint(Regex("a(b"));
  EXPECT_THAT(complaint, HasSubstr("regex a(b cannot be followed: "));
  EXPECT_THAT(complaint, HasSubstr("; correct or simplify it"));
  EXPECT_THAT(complaint, Not(HasSubstr("...")));
}

TEST_F(GrammarSourceTest, ALongRuleIsShownToItsSixtiethByte) {
  const std::string rule = "(" + std::string(99, 'a');
  EXPECT_THAT(Complaint(Regex(rule)),
              HasSubstr("regex " + rule.substr(0, 60) + "... cannot"));
  // One of sixty bytes is whole.
  EXPECT_THAT(Complaint(Regex(rule.substr(0, 60))),
              HasSubstr("regex " + rule.substr(0, 60) + " cannot"));
}

// Euro signs of three bytes: the sixtieth byte is within one.
TEST_F(GrammarSourceTest, ACharacterIsShownWholeOrNotAtAll) {
  std::string rule = "((";
  for (int i = 0; i < 40; ++i) rule += "\xe2\x82\xac";
  EXPECT_THAT(Complaint(Regex(rule)),
              HasSubstr("regex " + rule.substr(0, 2 + 19 * 3) + "... cannot"));
}

TEST_F(GrammarSourceTest, ARuleIsShownInOneLine) {
  const std::string complaint = Complaint(Regex("a\n\tb("));
  EXPECT_THAT(complaint, HasSubstr("regex a  b( cannot"));
  EXPECT_THAT(complaint.substr(0, complaint.find("cannot")),
              Not(HasSubstr("\n")));
}

TEST_F(GrammarSourceTest, TheFirstOfSeveralCallsMakesTheVocabularyForAll) {
  std::vector<std::thread> threads;
  std::vector<absl::Status> statuses(4);
  for (absl::Status& status : statuses) {
    threads.emplace_back(
        [&] { status = source_.Compile(Regex("a*b")).status(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) {
    EXPECT_TRUE(status.ok()) << status;
  }
}

// A model whose logits are narrower than its tokenizer's ids cannot sample the
// rest; none of what it lacks may be allowed.
TEST_F(GrammarSourceTest, NoTokenBeyondTheModelsVocabularyIsAllowed) {
  constexpr int32_t kVocabSize = 20;  // 'a' to 's'
  GrammarSource source(tokenizer_.get(), kVocabSize, {3});
  absl::StatusOr<Grammar> grammar = source.Compile(Regex("[a-z]"));
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const auto words = grammar->NextTokens();
  ASSERT_TRUE(words.ok());
  EXPECT_TRUE(Allows(*words, Letters("s")[0]));
  EXPECT_FALSE(Allows(*words, Letters("t")[0]));
  EXPECT_FALSE(Allows(*words, Letters("z")[0]));
}

}  // namespace
}  // namespace quire
