// SPDX-License-Identifier: Apache-2.0
//
// Whatever bytes a rule is made of, it is compiled or refused in one line, and
// what was compiled leads some tokens on, or to a dead end that says so. The
// first byte says in what the rule is written, the second how to go on.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/text/grammar.h"
#include "common/text/tokenizer.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr TokenId kEnd = 0;

// Printable ASCII, a few pairs and a token that ends a text.
const GrammarVocab& Vocab() {
  static const GrammarVocab* const vocab = [] {
    std::string pieces = "\"<end>\": 0, \"Ġ\": 1";
    int32_t next = 2;
    const auto add = [&](const std::string& piece) {
      absl::StrAppend(&pieces, ", \"", piece, "\": ", next++);
    };
    for (char c = '!'; c <= '~'; ++c) {
      add(c == '"' || c == '\\' ? absl::StrCat("\\", std::string(1, c))
                                : std::string(1, c));
    }
    for (const char* pair : {"ab", "{\\\"", "\\\":", "},", "10", "Ċ", "true"}) {
      add(pair);
    }
    const auto tokenizer = Tokenizer::FromJson(absl::StrCat(
        R"({"version": "1.0", "added_tokens": [{"id": 0, "content": "<end>",
            "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
            "decoder": {"type": "ByteLevel", "add_prefix_space": false,
                        "trim_offsets": true, "use_regex": true},
            "model": {"type": "WordLevel", "unk_token": "!", "vocab": {)",
        pieces, "}}}"));
    CHECK(tokenizer.ok()) << tokenizer.status();
    auto made =
        GrammarVocab::Create(**tokenizer, (*tokenizer)->vocab_size(), {kEnd});
    CHECK(made.ok()) << made.status();
    return made->release();
  }();
  return *vocab;
}

void CheckRefusal(const absl::Status& status) {
  CHECK(absl::IsInvalidArgument(status)) << status;
  CHECK(!status.message().empty());
  CHECK_EQ(status.message().find('\n'), std::string::npos) << status;
}

void Follow(Grammar grammar, uint32_t choice) {
  for (int step = 0; step < 12 && !grammar.is_done(); ++step) {
    const auto mask = grammar.NextTokens();
    if (!mask.ok()) return CheckRefusal(mask.status());
    std::vector<TokenId> allowed;
    for (TokenId id = 0; id < static_cast<TokenId>(32 * mask->size()); ++id) {
      if (((*mask)[id / 32] >> (id % 32) & 1) != 0) allowed.push_back(id);
    }
    CHECK(!allowed.empty());
    choice = choice * 1103515245u + 12345u;
    const TokenId token = allowed[(choice >> 8) % allowed.size()];
    const absl::Status accepted = grammar.Accept({&token, 1});
    if (!accepted.ok()) return CheckRefusal(accepted);
  }
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto kind = static_cast<quire::RuleKind>(data[0] % 5);
  const std::string_view rule(reinterpret_cast<const char*>(data) + 2,
                              size - 2);
  auto grammar = quire::Vocab().Compile(kind, rule);
  if (grammar.ok()) {
    quire::Follow(*std::move(grammar), data[1]);
  } else {
    quire::CheckRefusal(grammar.status());
  }
  return 0;
}
