// SPDX-License-Identifier: Apache-2.0
//
// Any ids under any kind of decoder: the text is UTF-8, and a stream's pieces
// are the whole however they are cut.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/text/stream_decoder.h"
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

void Check(uint8_t head, const uint8_t* data, size_t size) {
  const Tokenizer& tokenizer = TokenizerOf(head >> 1);
  const bool skip = head & 1;
  // Two bytes an id, a step's end after ids whose second byte is odd.
  std::vector<TokenId> ids;
  std::string pieces;
  StreamDecoder decoder(&tokenizer, skip);
  size_t begin = 0;
  for (size_t i = 0; i + 1 < size; i += 2) {
    ids.push_back((data[i] | data[i + 1] << 8) % tokenizer.vocab_size());
    if (data[i + 1] % 2 == 0) continue;
    pieces += *decoder.Append(absl::MakeConstSpan(ids).subspan(begin));
    CHECK(IsValidUtf8(pieces));
    begin = ids.size();
  }
  pieces += *decoder.Append(absl::MakeConstSpan(ids).subspan(begin));
  pieces += *decoder.Flush();
  CHECK_EQ(pieces, *tokenizer.Decode(ids, skip));
  CHECK(IsValidUtf8(*tokenizer.DecodeAsLibrary(ids, skip)));
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  quire::Check(data[0], data + 1, size - 1);
  return 0;
}
