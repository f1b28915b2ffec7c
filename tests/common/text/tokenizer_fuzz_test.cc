// SPDX-License-Identifier: Apache-2.0
//
// Whatever bytes stand in a tokenizer.json, it is refused or it is a tokenizer:
// its tokens are known ones and its text is UTF-8.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/text/tokenizer.h"
#include "common/text/utf8.h"
#include "glog/logging.h"

namespace quire {
namespace {

void Use(const Tokenizer& tokenizer) {
  CHECK_GT(tokenizer.vocab_size(), 0);
  for (const std::string_view text :
       {"", "Hello  world\n", "naïve 你好 😀", "<s>[CLS]<|user|>"}) {
    EncodeOptions options;
    options.add_special_tokens = true;
    options.special_tokens = SpecialTokens::kParse;
    const auto ids = tokenizer.Encode(text, options);
    if (!ids.ok()) continue;
    for (const TokenId id : *ids) CHECK(tokenizer.IsKnown(id)) << id;
    const auto back = tokenizer.Decode(*ids, /*skip_special_tokens=*/false);
    if (back.ok()) CHECK(IsValidUtf8(*back));
  }
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tokenizer =
      quire::Tokenizer::FromJson({reinterpret_cast<const char*>(data), size});
  if (tokenizer.ok()) quire::Use(**tokenizer);
  return 0;
}
