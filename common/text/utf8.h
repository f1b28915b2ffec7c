// SPDX-License-Identifier: Apache-2.0
//
// The few facts about UTF-8 that Quire itself needs to know.
#ifndef COMMON_TEXT_UTF8_H_
#define COMMON_TEXT_UTF8_H_

#include <cstddef>
#include <string_view>

namespace quire {

// U+FFFD, what a decoder writes in the place of bytes that are no character.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// The length in bytes of the longest prefix of `text` that is valid UTF-8
// (RFC 3629: shortest forms only, no surrogates, nothing above U+10FFFF).
size_t ValidUtf8Prefix(std::string_view text);

// Bytes at the beginning of `text`, where no character is, in whose place one
// U+FFFD stands: as much of a character as is there (Unicode 15, section 3.9),
// or a byte that begins none. 0: `text` is the beginning of a character that
// more bytes may complete. REQUIRES: ValidUtf8Prefix(text) == 0 < text.size().
size_t BrokenUtf8Prefix(std::string_view text);

inline bool IsValidUtf8(std::string_view text) {
  return ValidUtf8Prefix(text) == text.size();
}

// Whether a character may begin at this byte.
inline bool IsUtf8Boundary(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}

}  // namespace quire

#endif  // COMMON_TEXT_UTF8_H_
