// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/colour.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace quire {

bool IsColourTerminal(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  if (term != nullptr && std::strcmp(term, "dumb") == 0) return false;
  return isatty(fd) == 1;
}

std::string Painter::Shade(size_t number, const std::string& text) const {
  // Black on pale colours of the 256 that terminals share.
  static constexpr const char* kShades[] = {"30;48;5;152", "30;48;5;223",
                                            "30;48;5;183", "30;48;5;151",
                                            "30;48;5;224"};
  std::string painted;
  size_t from = 0;
  while (from < text.size()) {
    const size_t to = std::min(text.find('\n', from), text.size());
    if (to > from) {
      painted += Paint(kShades[number % std::size(kShades)],
                       text.substr(from, to - from));
    }
    if (to < text.size()) painted += '\n';
    from = to + 1;
  }
  return painted;
}

std::string Painter::Paint(const char* code, const std::string& text) const {
  if (!is_colourful_) return text;
  return std::string("\033[") + code + "m" + text + "\033[0m";
}

}  // namespace quire
