// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer whose tokens are letters: 'a' is 1 ... 'z' is 26, space is 27,
// <eos> (special) is 28, anything else 0.
#ifndef TESTS_COORDINATOR_GATEWAY_LETTERS_TOKENIZER_H_
#define TESTS_COORDINATOR_GATEWAY_LETTERS_TOKENIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/text/tokenizer.h"
#include "glog/logging.h"

namespace quire {

inline constexpr TokenId kEosToken = 28;
inline constexpr int32_t kLettersVocabSize = 29;

inline std::string LettersTokenizerJson() {
  std::string vocab = R"("<unk>": 0)";
  for (char c = 'a'; c <= 'z'; ++c) {
    absl::StrAppend(&vocab, ", \"", std::string(1, c), "\": ", c - 'a' + 1);
  }
  absl::StrAppend(&vocab, ", \" \": 27, \"<eos>\": 28");
  return absl::StrCat(
      R"({"version": "1.0",
          "added_tokens": [{"id": 28, "content": "<eos>", "special": true,
            "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false}],
          "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."},
            "behavior": "Isolated", "invert": false},
          "decoder": {"type": "Fuse"},
          "model": {"type": "WordLevel", "vocab": {)",
      vocab, R"(}, "unk_token": "<unk>"}})");
}

inline std::unique_ptr<Tokenizer> MakeLettersTokenizer() {
  auto tokenizer = Tokenizer::FromJson(LettersTokenizerJson());
  CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

inline std::vector<TokenId> Letters(const std::string& text) {
  std::vector<TokenId> tokens;
  for (const char c : text) tokens.push_back(c == ' ' ? 27 : c - 'a' + 1);
  return tokens;
}

}  // namespace quire

#endif  // TESTS_COORDINATOR_GATEWAY_LETTERS_TOKENIZER_H_
