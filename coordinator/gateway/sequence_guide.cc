// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/sequence_guide.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/gateway/violations.h"

namespace quire {

SequenceGuide::SequenceGuide(Grammar grammar, absl::Span<const TokenId> allowed)
    : grammar_(std::move(grammar)) {
  for (TokenId id : allowed) {
    const size_t word = id / 32;
    if (word >= allowed_.size()) allowed_.resize(word + 1);
    allowed_[word] |= uint32_t{1} << (id % 32);
  }
}

absl::StatusOr<SequenceGuide> SequenceGuide::Clone() const {
  QUIRE_ASSIGN_OR_RETURN(Grammar grammar, grammar_.Clone());
  return SequenceGuide(std::move(grammar), allowed_, num_tokens_);
}

absl::Status SequenceGuide::Explain(const absl::Status& status) const {
  if (!absl::IsInvalidArgument(status)) return status;
  return InvalidFields(
      "INVALID_PARAMETER",
      {{"sampling.structured_output",
        absl::StrCat("structured_output cannot be followed after ", num_tokens_,
                     " tokens: ", status.message(), "; simplify it")}});
}

absl::Status SequenceGuide::Accept(absl::Span<const TokenId> tokens) {
  QUIRE_RETURN_IF_ERROR(Explain(grammar_.Accept(tokens)));
  num_tokens_ += static_cast<int64_t>(tokens.size());
  return absl::OkStatus();
}

absl::StatusOr<TokenMask> SequenceGuide::Next() {
  absl::StatusOr<TokenMask> mask = grammar_.NextTokens();
  if (!mask.ok()) return Explain(mask.status());
  if (allowed_.empty()) return mask;
  mask->resize(std::min(mask->size(), allowed_.size()));
  bool any = false;
  for (size_t i = 0; i < mask->size(); ++i) {
    any = ((*mask)[i] &= allowed_[i]) != 0 || any;
  }
  if (any) return mask;
  return InvalidFields(
      "INVALID_PARAMETER",
      {{"sampling.allowed_token_ids",
        absl::StrCat("allowed_token_ids holds none of the tokens that "
                     "structured_output allows after ",
                     num_tokens_, " tokens; allow more of them")}});
}

}  // namespace quire
