// SPDX-License-Identifier: Apache-2.0
//
// Token ids of one sequence to text, as they come.
#ifndef COMMON_TEXT_STREAM_DECODER_H_
#define COMMON_TEXT_STREAM_DECODER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/text/tokenizer.h"

namespace quire {

// Gives out text as soon as no later token can change it. Every piece is whole
// UTF-8 characters, and the pieces together, the one of Flush() included, are
// Tokenizer::Decode of all ids.
//
// How: what a token adds to a text depends on the tokens just before it (a
// space that is dropped at the beginning, a character in several tokens), never
// on those far back. So a short window of recent tokens is decoded with each
// new one, and what is longer than before is new. The cost of a token is
// bounded by the window, not by the text. Where every token adds bytes of its
// own, these are put together, and nothing is decoded.
//
// Thread-compatible. One per sequence; copying one forks it.
class StreamDecoder final {
 public:
  // `tokenizer` is borrowed and must outlive this object.
  explicit StreamDecoder(const Tokenizer* tokenizer,
                         bool skip_special_tokens = true)
      : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that `ids` complete, possibly none. Ids that no token has (a
  // model's logits may be wider than its vocabulary) give no text. Fails only
  // if the tokenizer's own decoding fails.
  absl::StatusOr<std::string> Append(absl::Span<const TokenId> ids);

  // The text held back so far: bytes that never became a character, each as
  // U+FFFD. Afterwards nothing is held.
  absl::StatusOr<std::string> Flush();

 private:
  // A place in the window where all text was given out and ended with a whole
  // character.
  struct CleanCut {
    size_t num_ids;     // of the window, before the place
    size_t text_bytes;  // of the window's text, before the place
  };

  absl::Status AppendOne(TokenId id, std::string* out);
  void AppendBytes(std::string_view bytes, std::string* out);
  // Each drops old tokens from the window, whose text is `text`.
  absl::Status ShrinkAtCleanCut(const std::string& text);
  absl::Status ShrinkInsideGarbage(const std::string& text);
  absl::StatusOr<std::string> DecodeWindow(size_t begin, size_t end) const;

  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::string held_;  // bytes that more may make a character
  std::vector<TokenId> window_;
  std::vector<CleanCut> cuts_;      // in the order of num_ids
  size_t given_bytes_ = 0;          // of the window's text that was given out
  size_t next_shrink_ = kShrinkAt;  // tokens in the window

  // A window is cut when it has this many tokens. The cost of a token is one
  // decoding of half of it on average, and a cut costs one more.
  static constexpr size_t kShrinkAt = 8;
};

}  // namespace quire

#endif  // COMMON_TEXT_STREAM_DECODER_H_
