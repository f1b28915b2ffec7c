// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/paper_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/cli/text_table.h"

namespace quire {
namespace {

const std::vector<std::string>& Headings() {
  static const auto& headings = *new std::vector<std::string>{
      "figure", "what", "paper", "here", "difference", "note"};
  return headings;
}

std::vector<std::string> Cells(const PaperRow& row) {
  return {row.figure,
          row.what,
          row.paper.has_value() ? FormatValue(*row.paper, row.unit) : "",
          FormatValue(row.ours, row.unit),
          FormatDifference(row),
          row.note};
}

}  // namespace

std::string FormatValue(double value, Unit unit) {
  switch (unit) {
    case Unit::kNumber:
      return absl::StrFormat("%.2f", value);
    case Unit::kRate:
      return absl::StrFormat("%.2f/s", value);
    case Unit::kPercent:
      return absl::StrFormat("%.1f %%", value);
    case Unit::kRatio:
      return absl::StrFormat("%.2fx", value);
    case Unit::kSeconds:
      return absl::StrFormat("%.4f s", value);
  }
  return "";
}

std::string FormatDifference(const PaperRow& row) {
  if (!row.paper.has_value()) return "";
  if (row.unit == Unit::kPercent) {
    return absl::StrFormat("%+.1f points", row.ours - *row.paper);
  }
  return absl::StrFormat("%+.1f %%", 100 * (row.ours / *row.paper - 1));
}

std::string ToText(const std::vector<PaperRow>& rows) {
  std::vector<std::vector<std::string>> cells;
  for (const PaperRow& row : rows) cells.push_back(Cells(row));
  return FormatTable(Headings(), cells);
}

std::string ToMarkdown(const std::vector<PaperRow>& rows) {
  const auto line = [](const std::vector<std::string>& cells) {
    return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |\n");
  };
  std::string text = line(Headings());
  text += "|---|---|---|---|---|---|\n";
  for (const PaperRow& row : rows) text += line(Cells(row));
  return text;
}

}  // namespace quire
