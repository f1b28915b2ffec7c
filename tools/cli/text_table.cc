// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/text_table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace quire {
namespace {

// UTF-8 characters: every byte but continuation bytes begins one.
size_t Width(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (c & 0xC0) != 0x80; });
}

std::string Repeat(const char* text, size_t num) {
  std::string out;
  for (size_t copy = 0; copy < num; ++copy) out += text;
  return out;
}

bool IsNumber(const std::string& cell) {
  double ignored;
  return cell == "-" || absl::SimpleAtod(cell, &ignored);
}

std::string FormatRow(const std::vector<std::string>& cells,
                      const std::vector<size_t>& widths,
                      const std::vector<bool>& is_numeric) {
  std::string line;
  for (size_t col = 0; col < cells.size(); ++col) {
    const std::string padding(widths[col] - Width(cells[col]), ' ');
    absl::StrAppend(
        &line, col == 0 ? "" : "  ",
        is_numeric[col] ? padding + cells[col] : cells[col] + padding);
  }
  absl::StripTrailingAsciiWhitespace(&line);
  return line + "\n";
}

}  // namespace

std::string FormatTable(const std::vector<std::string>& headings,
                        const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  std::vector<bool> is_numeric(headings.size(), !rows.empty());
  for (const std::string& heading : headings) widths.push_back(Width(heading));
  for (const std::vector<std::string>& row : rows) {
    for (size_t col = 0; col < row.size(); ++col) {
      widths[col] = std::max(widths[col], Width(row[col]));
      if (!IsNumber(row[col])) is_numeric[col] = false;
    }
  }
  std::string out = FormatRow(headings, widths, is_numeric);
  for (const std::vector<std::string>& row : rows) {
    out += FormatRow(row, widths, is_numeric);
  }
  return out;
}

std::string FormatBox(const std::string& title,
                      const std::vector<std::string>& lines) {
  size_t width = Width(title) + 2;
  for (const std::string& line : lines) width = std::max(width, Width(line));
  std::string out = absl::StrCat("╭─ ", title, " ",
                                 Repeat("─", width - Width(title) - 1), "╮\n");
  for (const std::string& line : lines) {
    absl::StrAppend(&out, "│ ", line, std::string(width - Width(line), ' '),
                    " │\n");
  }
  absl::StrAppend(&out, "╰", Repeat("─", width + 2), "╯\n");
  return out;
}

}  // namespace quire
