// SPDX-License-Identifier: Apache-2.0
//
// Text laid out for people: columns that line up, and a frame around lines.
#ifndef TOOLS_CLI_TEXT_TABLE_H_
#define TOOLS_CLI_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace quire {

// A heading row and rows beneath it, columns two blanks apart. A column whose
// cells below the heading are all numbers is set to the right.
// REQUIRES: every row is as long as `headings`.
std::string FormatTable(const std::vector<std::string>& headings,
                        const std::vector<std::vector<std::string>>& rows);

// `lines` in a frame that bears `title`. A line's width is its UTF-8
// characters.
std::string FormatBox(const std::string& title,
                      const std::vector<std::string>& lines);

}  // namespace quire

#endif  // TOOLS_CLI_TEXT_TABLE_H_
