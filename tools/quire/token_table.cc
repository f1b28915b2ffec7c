// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/token_table.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "common/text/stream_decoder.h"

namespace quire {
namespace {

// What a terminal would act on, and what nobody would see.
std::string Visible(const std::string& text) {
  std::string shown;
  for (const char c : text) {
    switch (c) {
      case '\n':
        shown += "\\n";
        break;
      case '\r':
        shown += "\\r";
        break;
      case '\t':
        shown += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          absl::StrAppend(&shown,
                          absl::StrFormat("\\x%02x", static_cast<int>(c)));
        } else {
          shown += c;
        }
    }
  }
  return shown;
}

size_t NumCharacters(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string Plural(size_t number, const char* word) {
  return absl::StrCat(number, " ", word, number == 1 ? "" : "s");
}

}  // namespace

std::string TokenCounts(size_t num_tokens, const std::string& text) {
  const size_t num_characters = NumCharacters(text);
  std::string counts = absl::StrCat(Plural(num_tokens, "token"), ", ",
                                    Plural(num_characters, "character"), ", ",
                                    Plural(text.size(), "byte"));
  if (num_tokens > 0) {
    absl::StrAppend(&counts,
                    absl::StrFormat(", %.2f characters per token",
                                    1.0 * num_characters / num_tokens));
  }
  return counts;
}

absl::StatusOr<std::string> TokenTable(const Tokenizer& tokenizer,
                                       absl::Span<const TokenId> tokens,
                                       const Painter& painter) {
  StreamDecoder decoder(&tokenizer, /*skip_special_tokens=*/false);
  std::string whole;
  std::string shaded;
  std::vector<std::string> texts;
  for (size_t i = 0; i < tokens.size(); ++i) {
    QUIRE_ASSIGN_OR_RETURN(std::string text, decoder.Append({&tokens[i], 1}));
    if (i + 1 == tokens.size()) {
      QUIRE_ASSIGN_OR_RETURN(const std::string rest, decoder.Flush());
      text += rest;
    }
    whole += text;
    if (!painter.is_colourful() && i > 0) shaded += "|";
    shaded += painter.Shade(i, Visible(text));
    texts.push_back(std::move(text));
  }
  std::string table = absl::StrCat(shaded, "\n\n");
  for (size_t i = 0; i < tokens.size(); ++i) {
    QUIRE_ASSIGN_OR_RETURN(const std::string piece,
                           tokenizer.IdToPiece(tokens[i]));
    const std::string id = absl::StrFormat("%8d", tokens[i]);
    const bool is_special = tokenizer.IsSpecial(tokens[i]);
    absl::StrAppend(&table, painter.Cyan(id), "  ",
                    painter.Shade(i, Visible(piece)),
                    is_special ? painter.Dim("  control") : "", "\n");
  }
  absl::StrAppend(&table, tokens.empty() ? "" : "\n",
                  painter.Dim(TokenCounts(tokens.size(), whole)), "\n");
  return table;
}

}  // namespace quire
