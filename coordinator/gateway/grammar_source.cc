// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/grammar_source.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/gateway/violations.h"

namespace quire {
namespace {

// The rule is the client's and may be long; a line needs only its beginning.
constexpr size_t kShownBytes = 60;

std::string Shown(const TextStructure& structure) {
  std::string text = structure.rule.substr(0, kShownBytes);
  // Not within a character, and in one line.
  while (structure.rule.size() > kShownBytes && !text.empty() &&
         (static_cast<unsigned char>(structure.rule[text.size()]) & 0xc0) ==
             0x80) {
    text.pop_back();
  }
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return absl::StrCat(structure.name, text.empty() ? "" : " ", text,
                      structure.rule.size() > kShownBytes ? "..." : "");
}

}  // namespace

GrammarSource::GrammarSource(const Tokenizer* tokenizer, int32_t vocab_size,
                             std::vector<TokenId> eos_token_ids)
    : tokenizer_(tokenizer),
      vocab_size_(vocab_size),
      eos_token_ids_(std::move(eos_token_ids)) {}

absl::StatusOr<const GrammarVocab*> GrammarSource::Vocab() {
  absl::MutexLock lock(&mutex_);
  if (!vocab_.has_value()) {
    vocab_ = GrammarVocab::Create(*tokenizer_, vocab_size_, eos_token_ids_);
  }
  if (!vocab_->ok()) return vocab_->status();
  return (*vocab_)->get();
}

absl::StatusOr<Grammar> GrammarSource::Compile(const TextStructure& structure) {
  const auto compile = [&]() -> absl::StatusOr<Grammar> {
    QUIRE_ASSIGN_OR_RETURN(const GrammarVocab* vocab, Vocab());
    return vocab->Compile(structure.kind, structure.rule);
  };
  absl::StatusOr<Grammar> grammar = compile();
  if (grammar.ok() || !absl::IsInvalidArgument(grammar.status())) {
    return grammar;
  }
  return InvalidFields(
      "INVALID_PARAMETER",
      {{absl::StrCat("sampling.structured_output.", structure.name),
        absl::StrCat(Shown(structure), " cannot be followed: ",
                     grammar.status().message(), "; correct or simplify it")}});
}

}  // namespace quire
