// SPDX-License-Identifier: Apache-2.0
//
// Text to token ids and back, exactly as Hugging Face does it, from any
// tokenizer.json.
#ifndef COMMON_TEXT_TOKENIZER_H_
#define COMMON_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"

struct QtTokenizer;  // common/text/ffi/quire_text.h

namespace quire {

// What the spelling of a control token ("<|im_start|>") in a text means. Only
// tokens that the file marks `special` are meant; other added tokens are
// vocabulary.
enum class SpecialTokens {
  // Ordinary characters. The result holds no control token, so text from
  // outside cannot forge a turn of a conversation.
  kAsText,
  // The control token. For text that the operator or a chat template wrote.
  kParse,
  // As kParse, but what Tokenizer::GuardUserText marked is ordinary text: for
  // the output of a chat template that was given guarded messages.
  kParseUnguarded,
};

struct EncodeOptions {
  // Runs the file's post-processor, which adds BOS and the like.
  bool add_special_tokens = false;
  SpecialTokens special_tokens = SpecialTokens::kAsText;
};

// A vocabulary and its rules. Thread-safe: every method is const.
class Tokenizer final {
 public:
  // Reads a tokenizer.json and, unless the second path is empty, the names of
  // the special tokens from a tokenizer_config.json. NotFound, Unavailable or
  // InvalidArgument name the file and what is wrong in it.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(
      const std::string& tokenizer_path, const std::string& config_path = "");

  // The same from the files' contents; `config_json` may be empty. `name`
  // stands for the file in messages.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> FromJson(
      std::string_view tokenizer_json, std::string_view config_json = "",
      std::string_view name = "tokenizer.json");

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // InvalidArgument if `text` is not UTF-8 or the vocabulary cannot express
  // it. About 5 MB/s: long texts belong on a thread of their own.
  absl::StatusOr<std::vector<TokenId>> Encode(
      std::string_view text, const EncodeOptions& options = {}) const;

  // InvalidArgument names the first id outside [0, vocab_size). Ids in that
  // range that no token has give no text. Bytes that are no character become
  // U+FFFD, so the result is valid UTF-8.
  absl::StatusOr<std::string> Decode(absl::Span<const TokenId> ids,
                                     bool skip_special_tokens) const;

  // The same, but exactly as Hugging Face's library decodes, which gives up a
  // whole run of byte tokens that is not UTF-8. A stream has sent that run's
  // good characters already, so Decode keeps them.
  absl::StatusOr<std::string> DecodeAsLibrary(absl::Span<const TokenId> ids,
                                              bool skip_special_tokens) const;

  // `text` with its spellings of control tokens marked, so that
  // SpecialTokens::kParseUnguarded reads them as ordinary text wherever a chat
  // template puts them. InvalidArgument if it is not UTF-8.
  absl::StatusOr<std::string> GuardUserText(std::string_view text) const;

  // The highest id plus one. The model's logits may be wider (padding).
  int32_t vocab_size() const { return static_cast<int32_t>(flags_.size()); }

  // Whether a token has this id. Any id may be asked about.
  bool IsKnown(TokenId id) const;
  // Whether it is a control token, which skip_special_tokens leaves out.
  bool IsSpecial(TokenId id) const;

  // Whether a token adds the same bytes to every text, whatever stands beside
  // it, so that a text is those of its tokens, with U+FFFD for each run that is
  // no character (utf8.h). So it is with byte-level vocabularies.
  bool adds_bytes() const { return !byte_ends_.empty(); }
  // Those bytes, none if no token has the id. They live as long as this.
  // REQUIRES: adds_bytes().
  std::string_view TokenBytes(TokenId id) const;

  // The id of a token by its spelling in the vocabulary ("Ġthe"), if any.
  std::optional<TokenId> TokenToId(std::string_view token) const;

  // That spelling. InvalidArgument if no token has the id.
  absl::StatusOr<std::string> IdToPiece(TokenId id) const;

  // Special tokens that tokenizer_config.json names and the vocabulary has.
  std::optional<TokenId> bos_id() const { return bos_id_; }
  std::optional<TokenId> eos_id() const { return eos_id_; }
  std::optional<TokenId> pad_id() const { return pad_id_; }
  std::optional<TokenId> unk_id() const { return unk_id_; }

 private:
  friend class GrammarVocab;  // arranges its tokens
  Tokenizer(QtTokenizer* handle, std::string flags);

  absl::Status ReadTokenBytes(std::string_view name);
  absl::Status ReadSpecialTokens(std::string_view config_json);
  std::string DescribeRange() const;
  absl::Status CheckIds(absl::Span<const TokenId> ids) const;

  QtTokenizer* const handle_;       // owned
  const std::string flags_;         // [vocab_size] of QtTokenFlag
  std::string bytes_;               // of all tokens, in the order of ids
  std::vector<int32_t> byte_ends_;  // [vocab_size] in bytes_; or empty
  std::optional<TokenId> bos_id_;
  std::optional<TokenId> eos_id_;
  std::optional<TokenId> pad_id_;
  std::optional<TokenId> unk_id_;
};

}  // namespace quire

#endif  // COMMON_TEXT_TOKENIZER_H_
