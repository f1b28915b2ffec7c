// SPDX-License-Identifier: Apache-2.0
#include "common/text/stream_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/utf8.h"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

using Ids = std::vector<TokenId>;

// All pieces of `ids`, one token at a time; each must be whole characters.
std::string Stream(const Tokenizer& tokenizer, const Ids& ids,
                   bool skip_special_tokens) {
  StreamDecoder decoder(&tokenizer, skip_special_tokens);
  std::string all;
  for (const TokenId id : ids) {
    const auto piece = decoder.Append({id});
    EXPECT_TRUE(piece.ok()) << piece.status();
    EXPECT_TRUE(IsValidUtf8(*piece));
    all += *piece;
  }
  const auto rest = decoder.Flush();
  EXPECT_TRUE(rest.ok() && IsValidUtf8(*rest));
  EXPECT_EQ(*decoder.Flush(), "");
  return all + *rest;
}

class StreamDecoderKindTest : public testing::TestWithParam<const char*> {
 protected:
  void ExpectSameAsWhole(const Ids& ids) {
    for (const bool skip : {true, false}) {
      const auto whole = tokenizer_->Decode(ids, skip);
      ASSERT_TRUE(whole.ok()) << whole.status();
      EXPECT_EQ(Stream(*tokenizer_, ids, skip), *whole)
          << testing::PrintToString(ids) << " skip " << skip;
    }
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = LoadTestTokenizer(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Kinds, StreamDecoderKindTest,
                         testing::ValuesIn(kTokenizerKinds),
                         [](const auto& info) { return info.param; });

TEST_P(StreamDecoderKindTest, PiecesOfATextAreTheText) {
  const nlohmann::json all = ReadGolden(GetParam());
  for (const auto& golden : all["encode"]) {
    ExpectSameAsWhole(golden["as_text"]);
    ExpectSameAsWhole(golden["parsed_with_special"]);
  }
}

TEST_P(StreamDecoderKindTest, PiecesOfRandomIdsAreTheirText) {
  std::mt19937 rng(17);
  std::uniform_int_distribution<TokenId> any(0, tokenizer_->vocab_size() - 1);
  for (int round = 0; round < 400; ++round) {
    Ids ids(round % 100);
    for (TokenId& id : ids) id = any(rng);
    ExpectSameAsWhole(ids);
  }
}

TEST_P(StreamDecoderKindTest, PiecesOfRepeatedIdsAreTheirText) {
  std::mt19937 rng(18);
  std::uniform_int_distribution<TokenId> any(0, tokenizer_->vocab_size() - 1);
  for (int round = 0; round < 100; ++round) {
    // One token over and over, and two that alternate: what a model that has
    // lost its way writes.
    ExpectSameAsWhole(Ids(60, any(rng)));
    Ids two;
    for (const TokenId a = any(rng), b = any(rng); two.size() < 60;) {
      two.push_back(a);
      two.push_back(b);
    }
    ExpectSameAsWhole(two);
  }
}

TEST_P(StreamDecoderKindTest, TheSizeOfAStepDoesNotChangeTheText) {
  std::mt19937 rng(19);
  std::uniform_int_distribution<TokenId> any(0, tokenizer_->vocab_size() - 1);
  std::uniform_int_distribution<size_t> step(1, 9);
  Ids ids(2000);
  for (TokenId& id : ids) id = any(rng);
  StreamDecoder decoder(tokenizer_.get());
  std::string all;
  for (size_t at = 0; at < ids.size();) {
    const size_t n = std::min(step(rng), ids.size() - at);
    all += *decoder.Append(absl::MakeConstSpan(ids).subspan(at, n));
    at += n;
  }
  all += *decoder.Flush();
  EXPECT_EQ(all, *tokenizer_->Decode(ids, /*skip_special_tokens=*/true));
}

// Tokens that are no ASCII, so that most characters are broken.
TEST(StreamDecoderTest, PiecesOfBrokenCharactersAreTheirTextWhereverItEnds) {
  std::mt19937 rng(20);
  for (const char* kind : {"byte_level", "gpt2", "qwen"}) {
    const auto tokenizer = LoadTestTokenizer(kind);
    Ids high;
    for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
      const std::string_view bytes = tokenizer->TokenBytes(id);
      if (std::any_of(bytes.begin(), bytes.end(),
                      [](char byte) { return (byte & 0x80) != 0; })) {
        high.push_back(id);
      }
    }
    ASSERT_GE(high.size(), 128u) << kind;
    std::uniform_int_distribution<size_t> any(0, high.size() - 1);
    for (int round = 0; round < 1000; ++round) {
      StreamDecoder decoder(tokenizer.get());
      Ids ids;
      std::string all;
      for (int i = 0; i < 12; ++i) {
        ids.push_back(high[any(rng)]);
        all += *decoder.Append({ids.back()});
        StreamDecoder end = decoder;
        ASSERT_EQ(all + *end.Flush(),
                  *tokenizer->DecodeAsLibrary(ids,
                                              /*skip_special_tokens=*/true))
            << kind << " " << testing::PrintToString(ids);
      }
    }
  }
}

TEST(StreamDecoderTest, ACharacterComesWithItsLastToken) {
  for (const char* kind : {"byte_level", "byte_fallback"}) {
    const auto tokenizer = LoadTestTokenizer(kind);
    // Not in the training text, so it takes one token a byte.
    const std::string emoji = "\U0001F9EE";
    const Ids ids = *tokenizer->Encode(emoji);
    ASSERT_GE(ids.size(), 3) << kind;
    StreamDecoder decoder(tokenizer.get());
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      EXPECT_EQ(*decoder.Append({ids[i]}), "") << kind;
    }
    EXPECT_EQ(*decoder.Append({ids.back()}), emoji) << kind;
  }
}

TEST(StreamDecoderTest, WhatIsNoCharacterComesAtOnce) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  ASSERT_TRUE(tokenizer->adds_bytes());
  const Ids ids = *tokenizer->Encode("\U0001F9EE");
  ASSERT_GE(ids.size(), 3);
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(*decoder.Append({ids[0]}), "");
  EXPECT_EQ(*decoder.Append({ids[0]}), "\uFFFD");  // that of the first
  EXPECT_EQ(*decoder.Flush(), "\uFFFD");
}

TEST(StreamDecoderTest, HalfACharacterIsShownWhenTheTextEnds) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  Ids ids = *tokenizer->Encode("a\U0001F9EE");
  ids.pop_back();
  StreamDecoder decoder(tokenizer.get());
  EXPECT_EQ(*decoder.Append(ids), "a");
  EXPECT_EQ(*decoder.Flush(), "\uFFFD");
}

TEST(StreamDecoderTest, TheFirstWordLosesItsSpaceAndTheOthersKeepTheirs) {
  const auto tokenizer = LoadTestTokenizer("byte_fallback");
  const Ids ids = *tokenizer->Encode("the block table");
  StreamDecoder decoder(tokenizer.get());
  std::string all;
  for (const TokenId id : ids) all += *decoder.Append({id});
  EXPECT_EQ(all, "the block table");
}

TEST(StreamDecoderTest, IdsThatNoTokenHasGiveNoText) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  const Ids ids = *tokenizer->Encode("paper lamp");
  StreamDecoder decoder(tokenizer.get());
  std::string all;
  for (const TokenId id : ids) {
    all += *decoder.Append({id});
    all += *decoder.Append({tokenizer->vocab_size(), -1, INT32_MAX});
  }
  EXPECT_EQ(all + *decoder.Flush(), "paper lamp");
}

TEST(StreamDecoderTest, ACopyGoesItsOwnWay) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  const Ids ids = *tokenizer->Encode("\U0001F9EE");
  StreamDecoder one(tokenizer.get());
  EXPECT_EQ(*one.Append(absl::MakeConstSpan(ids).first(ids.size() - 1)), "");
  StreamDecoder two = one;
  EXPECT_EQ(*one.Append({ids.back()}), "\U0001F9EE");
  EXPECT_EQ(*two.Append({*tokenizer->TokenToId("a")}), "\uFFFDa");
}

TEST(StreamDecoderTest, BytesThatNeverBecomeTextDoNotPileUp) {
  const auto tokenizer = LoadTestTokenizer("byte_fallback");
  const TokenId stray = *tokenizer->TokenToId("<0xFF>");
  StreamDecoder decoder(tokenizer.get());
  std::string all;
  // 20,000 tokens: if the window grew with them, this would decode 2 * 10^8
  // tokens and run into the test's time limit.
  for (int i = 0; i < 20'000; ++i) all += *decoder.Append({stray});
  // At most three may still become something else.
  EXPECT_GE(all.size(), 3 * (20'000 - 3));
  all += *decoder.Flush();
  EXPECT_EQ(all.size(), 3 * 20'000);
}

}  // namespace
}  // namespace quire
