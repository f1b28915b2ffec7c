// SPDX-License-Identifier: Apache-2.0
#include "common/text/tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/text/ffi/quire_text.h"
#include "common/text/ffi_call.h"
#include "common/text/special_token_names.h"
#include "common/text/text_file.h"

namespace quire {
namespace {

// Several times the largest files in use (Gemma's, 33 MB).
constexpr size_t kMaxTokenizerBytes = 256u << 20;
constexpr size_t kMaxConfigBytes = 16u << 20;

int32_t FfiMode(SpecialTokens mode) {
  switch (mode) {
    case SpecialTokens::kParse:
      return QT_SPECIAL_PARSE;
    case SpecialTokens::kParseUnguarded:
      return QT_SPECIAL_PARSE_UNMARKED;
    case SpecialTokens::kAsText:
      break;
  }
  return QT_SPECIAL_AS_TEXT;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(
    const std::string& tokenizer_path, const std::string& config_path) {
  QUIRE_ASSIGN_OR_RETURN(const std::string json,
                         ReadTextFile(tokenizer_path, kMaxTokenizerBytes));
  std::string config;
  if (!config_path.empty()) {
    QUIRE_ASSIGN_OR_RETURN(config, ReadTextFile(config_path, kMaxConfigBytes));
    if (config.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(config_path, " is empty: copy it again"));
    }
  }
  return FromJson(json, config, tokenizer_path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(
    std::string_view tokenizer_json, std::string_view config_json,
    std::string_view name) {
  QtTokenizer* handle = nullptr;
  FfiBuffer error;
  const int32_t code = qt_tokenizer_load(
      FfiBytes(tokenizer_json), tokenizer_json.size(), &handle, error.out());
  if (absl::Status status = FfiStatus(code, error, name); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(status.message(),
                     ": copy the model's tokenizer.json again, or save it with "
                     "a current version of transformers"));
  }
  FfiBuffer flags;
  const int32_t flags_code =
      qt_tokenizer_flags(handle, flags.out(), error.out());
  // Owns the handle from here on.
  std::unique_ptr<Tokenizer> tokenizer(
      new Tokenizer(handle, std::string(flags.view())));
  QUIRE_RETURN_IF_ERROR(FfiStatus(flags_code, error, name));
  QUIRE_RETURN_IF_ERROR(tokenizer->ReadTokenBytes(name));
  QUIRE_RETURN_IF_ERROR(tokenizer->ReadSpecialTokens(config_json));
  return tokenizer;
}

Tokenizer::Tokenizer(QtTokenizer* handle, std::string flags)
    : handle_(handle), flags_(std::move(flags)) {}

Tokenizer::~Tokenizer() { qt_tokenizer_free(handle_); }

absl::Status Tokenizer::ReadTokenBytes(std::string_view name) {
  FfiBuffer bytes;
  FfiBuffer error;
  QtIds ends = {nullptr, 0};
  const int32_t code =
      qt_tokenizer_token_bytes(handle_, bytes.out(), &ends, error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error, name));
  bytes_ = std::string(bytes.view());
  byte_ends_.assign(ends.data, ends.data + ends.size);
  qt_ids_free(ends);
  return absl::OkStatus();
}

absl::Status Tokenizer::ReadSpecialTokens(std::string_view config_json) {
  if (config_json.empty()) return absl::OkStatus();
  QUIRE_ASSIGN_OR_RETURN(const SpecialTokenNames names,
                         ParseSpecialTokenNames(config_json));
  const auto id_of = [&](const char* role) -> std::optional<TokenId> {
    const auto it = names.find(role);
    if (it == names.end()) return std::nullopt;
    return TokenToId(it->second);
  };
  bos_id_ = id_of("bos_token");
  eos_id_ = id_of("eos_token");
  pad_id_ = id_of("pad_token");
  unk_id_ = id_of("unk_token");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(
    std::string_view text, const EncodeOptions& options) const {
  QtIds ids = {nullptr, 0};
  FfiBuffer error;
  const int32_t code = qt_tokenizer_encode(
      handle_, FfiBytes(text), text.size(), options.add_special_tokens,
      FfiMode(options.special_tokens), &ids, error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  std::vector<TokenId> result(ids.data, ids.data + ids.size);
  qt_ids_free(ids);
  return result;
}

absl::Status Tokenizer::CheckIds(absl::Span<const TokenId> ids) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "token id ", ids[i], " at position ", i, " is ", DescribeRange()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const TokenId> ids,
                                              bool skip_special_tokens) const {
  QUIRE_RETURN_IF_ERROR(CheckIds(ids));
  FfiBuffer text;
  FfiBuffer error;
  const int32_t code =
      qt_tokenizer_decode(handle_, ids.data(), ids.size(), skip_special_tokens,
                          text.out(), error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::string(text.view());
}

absl::StatusOr<std::string> Tokenizer::DecodeAsLibrary(
    absl::Span<const TokenId> ids, bool skip_special_tokens) const {
  QUIRE_RETURN_IF_ERROR(CheckIds(ids));
  FfiBuffer text;
  FfiBuffer error;
  const int32_t code = qt_tokenizer_decode_as_library(
      handle_, ids.data(), ids.size(), skip_special_tokens, text.out(),
      error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::string(text.view());
}

absl::StatusOr<std::string> Tokenizer::GuardUserText(
    std::string_view text) const {
  FfiBuffer guarded;
  FfiBuffer error;
  const int32_t code = qt_tokenizer_guard(handle_, FfiBytes(text), text.size(),
                                          guarded.out(), error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::string(guarded.view());
}

bool Tokenizer::IsKnown(TokenId id) const {
  return id >= 0 && id < vocab_size() && (flags_[id] & QT_TOKEN_KNOWN) != 0;
}

bool Tokenizer::IsSpecial(TokenId id) const {
  return id >= 0 && id < vocab_size() && (flags_[id] & QT_TOKEN_SPECIAL) != 0;
}

std::string_view Tokenizer::TokenBytes(TokenId id) const {
  if (!IsKnown(id)) return {};
  const int32_t begin = id == 0 ? 0 : byte_ends_[id - 1];
  return std::string_view(bytes_).substr(begin, byte_ends_[id] - begin);
}

std::optional<TokenId> Tokenizer::TokenToId(std::string_view token) const {
  int32_t id = -1;
  // A spelling that is not UTF-8 is in no vocabulary.
  const int32_t code = qt_tokenizer_token_to_id(
      handle_, FfiBytes(token), token.size(), &id, /*error=*/nullptr);
  if (code != QT_OK || id < 0) return std::nullopt;
  return id;
}

absl::StatusOr<std::string> Tokenizer::IdToPiece(TokenId id) const {
  if (!IsKnown(id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", id, " is ", DescribeRange()));
  }
  FfiBuffer piece;
  FfiBuffer error;
  const int32_t code =
      qt_tokenizer_id_to_piece(handle_, id, piece.out(), error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::string(piece.view());
}

std::string Tokenizer::DescribeRange() const {
  return absl::StrCat("outside the vocabulary [0, ", vocab_size(),
                      "): send ids that this model's tokenizer gave");
}

}  // namespace quire
