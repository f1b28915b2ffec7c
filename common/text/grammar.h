// SPDX-License-Identifier: Apache-2.0
//
// Which tokens may come next, so that a text follows a rule.
#ifndef COMMON_TEXT_GRAMMAR_H_
#define COMMON_TEXT_GRAMMAR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/text/tokenizer.h"

struct QtGrammar;  // common/text/ffi/quire_grammar.h
struct QtGrammarVocab;

namespace quire {

// In what a rule is written.
enum class RuleKind {
  kJsonSchema,
  kJsonObject,  // any; the rule's text is not read
  kRegex,       // that matches the whole text
  kChoice,      // a JSON array of strings, one of which is the text
  kLark,
};

// A rule, and how much of a text has followed it. Thread-compatible; copies by
// Clone() are apart.
class Grammar final {
 public:
  Grammar(Grammar&& other) noexcept;
  Grammar& operator=(Grammar&& other) noexcept;
  ~Grammar();

  // With its progress.
  absl::StatusOr<Grammar> Clone() const;

  // Which tokens may come next: bit id % 32 of word id / 32, at least one.
  // End-of-sequence alone once that has come. InvalidArgument where the text
  // has become too costly to follow; then all later calls fail. Takes 20
  // microseconds mostly, and is given up after 100 ms of processor time.
  absl::StatusOr<std::vector<uint32_t>> NextTokens();

  // The tokens have come. InvalidArgument, for good, if one may not, or takes
  // more than 100 ms of processor time.
  absl::Status Accept(absl::Span<const TokenId> tokens);
  // The last ones have not come after all.
  absl::Status Rollback(int32_t num_tokens);

  // Whether nothing but end-of-sequence can come, or something failed.
  bool is_done() const;

 private:
  friend class GrammarVocab;
  Grammar(QtGrammar* handle, int32_t num_words)
      : handle_(handle), num_words_(num_words) {}

  QtGrammar* handle_;  // owned; null once it was moved from
  int32_t num_words_;
};

// A tokenizer's tokens, arranged for masks. Thread-safe.
class GrammarVocab final {
 public:
  // Tokens of [0, vocab_size) may come; those of `eos_token_ids` end a text
  // where the rule lets it end. InvalidArgument if there is none, or if the
  // text of this tokenizer's tokens depends on their neighbours (WordPiece).
  // Takes half a second for 128,000 tokens. `tokenizer` is borrowed for
  // this call.
  static absl::StatusOr<std::unique_ptr<GrammarVocab>> Create(
      const Tokenizer& tokenizer, int32_t vocab_size,
      absl::Span<const TokenId> eos_token_ids);
  ~GrammarVocab();
  GrammarVocab(const GrammarVocab&) = delete;
  GrammarVocab& operator=(const GrammarVocab&) = delete;

  // InvalidArgument, in one line, if the rule is malformed, if it can lead to
  // where no text ends, or if it costs more than limits on size, counts (ffi/src/rule_cost.rs)
  // and memory (some tens of megabytes) allow. Takes some tens of milliseconds
  // at most where those limits foresee the cost, and is given up after a second
  // of processor time where they do not.
  absl::StatusOr<Grammar> Compile(RuleKind kind, std::string_view rule) const;

 private:
  GrammarVocab(QtGrammarVocab* handle, int32_t num_words)
      : handle_(handle), num_words_(num_words) {}

  QtGrammarVocab* const handle_;  // owned
  const int32_t num_words_;       // of a mask
};

}  // namespace quire

#endif  // COMMON_TEXT_GRAMMAR_H_
