// SPDX-License-Identifier: Apache-2.0
//
// Any text under any kind of tokenizer: what is encoded is known, control
// tokens come from nobody who may not write them, and bytes survive where the
// vocabulary has them all.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/text/tokenizer.h"
#include "common/text/utf8.h"
#include "glog/logging.h"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

const Tokenizer& TokenizerOf(size_t kind) {
  static const auto* const tokenizers = [] {
    auto* all = new std::vector<std::unique_ptr<Tokenizer>>;
    for (const char* name : kTokenizerKinds) {
      all->push_back(LoadTestTokenizer(name));
    }
    return all;
  }();
  return *(*tokenizers)[kind % tokenizers->size()];
}

bool KeepsBytes(size_t kind) {
  const std::string_view name =
      kTokenizerKinds[kind % std::size(kTokenizerKinds)];
  return name == "byte_level" || name == "gpt2";
}

// What stands for text outside of the vocabulary is marked special, too.
bool IsUnknownToken(const Tokenizer& tokenizer, TokenId id) {
  const std::string piece = *tokenizer.IdToPiece(id);
  return piece == "<unk>" || piece == "[UNK]";
}

void Check(size_t kind, std::string_view text) {
  const Tokenizer& tokenizer = TokenizerOf(kind);
  const bool is_text = IsValidUtf8(text);
  const auto as_text = tokenizer.Encode(text);
  if (!is_text) CHECK(!as_text.ok());
  if (as_text.ok()) {
    for (const TokenId id : *as_text) {
      CHECK(tokenizer.IsKnown(id)) << id;
      CHECK(!tokenizer.IsSpecial(id) || IsUnknownToken(tokenizer, id)) << id;
    }
    if (KeepsBytes(kind)) {
      CHECK_EQ(*tokenizer.Decode(*as_text, false), std::string(text));
    }
  }
  EncodeOptions parse;
  parse.special_tokens = SpecialTokens::kParse;
  parse.add_special_tokens = true;
  const auto parsed = tokenizer.Encode(text, parse);
  CHECK_EQ(parsed.ok(), is_text) << parsed.status();
  const auto guarded = tokenizer.GuardUserText(text);
  CHECK_EQ(guarded.ok(), is_text);
  if (!guarded.ok()) return;
  EncodeOptions unguarded;
  unguarded.special_tokens = SpecialTokens::kParseUnguarded;
  const auto safe = tokenizer.Encode(*guarded, unguarded);
  if (!safe.ok()) return;
  for (const TokenId id : *safe) {
    CHECK(!tokenizer.IsSpecial(id) || IsUnknownToken(tokenizer, id)) << id;
  }
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  quire::Check(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
