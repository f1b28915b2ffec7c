// SPDX-License-Identifier: Apache-2.0
//
// Colours on terminals.
#ifndef TOOLS_CLI_COLOUR_H_
#define TOOLS_CLI_COLOUR_H_

#include <string>

namespace quire {

// Whether `fd` is a terminal that takes colours, and NO_COLOR is not set.
bool IsColourTerminal(int fd);

// Texts in colours, or as they are.
class Painter final {
 public:
  explicit Painter(bool is_colourful) : is_colourful_(is_colourful) {}

  bool is_colourful() const { return is_colourful_; }
  std::string Dim(const std::string& text) const { return Paint("2", text); }
  std::string Bold(const std::string& text) const { return Paint("1", text); }
  std::string Red(const std::string& text) const { return Paint("31", text); }
  std::string Cyan(const std::string& text) const { return Paint("36", text); }
  // On a background that differs from that of `number` plus one. Line breaks
  // stay outside the colours, which would run to the line's end.
  std::string Shade(size_t number, const std::string& text) const;

 private:
  std::string Paint(const char* code, const std::string& text) const;

  bool is_colourful_;
};

}  // namespace quire

#endif  // TOOLS_CLI_COLOUR_H_
