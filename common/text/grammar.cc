// SPDX-License-Identifier: Apache-2.0
#include "common/text/grammar.h"

#include <utility>

#include "common/status_macros.h"
#include "common/text/ffi/quire_grammar.h"
#include "common/text/ffi_call.h"
#include "glog/logging.h"

namespace quire {
namespace {

int32_t FfiKind(RuleKind kind) {
  switch (kind) {
    case RuleKind::kJsonSchema:
      return QT_RULE_JSON_SCHEMA;
    case RuleKind::kJsonObject:
      return QT_RULE_JSON_OBJECT;
    case RuleKind::kRegex:
      return QT_RULE_REGEX;
    case RuleKind::kChoice:
      return QT_RULE_CHOICE;
    case RuleKind::kLark:
      break;
  }
  return QT_RULE_LARK;
}

}  // namespace

Grammar::Grammar(Grammar&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)),
      num_words_(other.num_words_) {}

Grammar& Grammar::operator=(Grammar&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(num_words_, other.num_words_);
  return *this;
}

Grammar::~Grammar() { qt_grammar_free(handle_); }

absl::StatusOr<Grammar> Grammar::Clone() const {
  QtGrammar* handle = nullptr;
  FfiBuffer error;
  const int32_t code = qt_grammar_clone(handle_, &handle, error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return Grammar(handle, num_words_);
}

absl::StatusOr<std::vector<uint32_t>> Grammar::NextTokens() {
  std::vector<uint32_t> words(num_words_);
  FfiBuffer error;
  const int32_t code =
      qt_grammar_mask(handle_, words.data(), words.size(), error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return words;
}

absl::Status Grammar::Accept(absl::Span<const TokenId> tokens) {
  FfiBuffer error;
  const int32_t code =
      qt_grammar_accept(handle_, tokens.data(), tokens.size(), error.out());
  return FfiStatus(code, error);
}

absl::Status Grammar::Rollback(int32_t num_tokens) {
  CHECK_GE(num_tokens, 0);
  FfiBuffer error;
  const int32_t code = qt_grammar_rollback(handle_, num_tokens, error.out());
  return FfiStatus(code, error);
}

bool Grammar::is_done() const { return qt_grammar_is_done(handle_); }

absl::StatusOr<std::unique_ptr<GrammarVocab>> GrammarVocab::Create(
    const Tokenizer& tokenizer, int32_t vocab_size,
    absl::Span<const TokenId> eos_token_ids) {
  CHECK_GT(vocab_size, 0);
  QtGrammarVocab* handle = nullptr;
  FfiBuffer error;
  const int32_t code =
      qt_grammar_vocab_new(tokenizer.handle_, vocab_size, eos_token_ids.data(),
                           eos_token_ids.size(), &handle, error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::unique_ptr<GrammarVocab>(
      new GrammarVocab(handle, (vocab_size + 31) / 32));
}

GrammarVocab::~GrammarVocab() { qt_grammar_vocab_free(handle_); }

absl::StatusOr<Grammar> GrammarVocab::Compile(RuleKind kind,
                                              std::string_view rule) const {
  QtGrammar* handle = nullptr;
  FfiBuffer error;
  const int32_t code =
      qt_grammar_compile(handle_, FfiKind(kind), FfiBytes(rule), rule.size(),
                         &handle, error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return Grammar(handle, num_words_);
}

}  // namespace quire
