// SPDX-License-Identifier: Apache-2.0
//
// What the paper printed beside what comes out here.
#ifndef TOOLS_PAPER_PAPER_TABLE_H_
#define TOOLS_PAPER_PAPER_TABLE_H_

#include <optional>
#include <string>
#include <vector>

namespace quire {

enum class Unit { kNumber, kRate, kPercent, kRatio, kSeconds };

struct PaperRow {
  std::string figure;
  std::string what;
  std::optional<double> paper = {};  // none: the paper prints no number
  double ours = 0;
  Unit unit = Unit::kNumber;
  std::string note = {};
};

// "13.62", "38.2 %", "1.67x", "1.90/s".
std::string FormatValue(double value, Unit unit);

// Relative, or points of a percentage. Empty if the paper has no number.
std::string FormatDifference(const PaperRow& row);

// For people, and for a README.
std::string ToText(const std::vector<PaperRow>& rows);
std::string ToMarkdown(const std::vector<PaperRow>& rows);

}  // namespace quire

#endif  // TOOLS_PAPER_PAPER_TABLE_H_
