// SPDX-License-Identifier: Apache-2.0
#include "common/text/utf8.h"

#include <cstdint>

namespace quire {
namespace {

uint8_t ByteAt(std::string_view text, size_t i) {
  return static_cast<uint8_t>(text[i]);
}

// Bytes of a character that begins with `lead`, 0 if none does.
size_t SizeByLead(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// Whether the `i`th byte may stand where it does, after those before it.
bool Continues(std::string_view text, size_t i) {
  const uint8_t byte = ByteAt(text, i);
  if ((byte & 0xC0) != 0x80) return false;
  if (i > 1) return true;
  // Unicode 15, table 3-7: the second byte is narrower after these leads.
  const uint8_t lead = ByteAt(text, 0);
  if (lead == 0xE0) return byte >= 0xA0;
  if (lead == 0xED) return byte <= 0x9F;
  if (lead == 0xF0) return byte >= 0x90;
  if (lead == 0xF4) return byte <= 0x8F;
  return true;
}

// Bytes of the character that begins at `text`, 0 if none does.
size_t CharacterSize(std::string_view text) {
  const size_t size = SizeByLead(ByteAt(text, 0));
  if (text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if (!Continues(text, i)) return 0;
  }
  return size;
}

}  // namespace

size_t ValidUtf8Prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t size = CharacterSize(text.substr(at));
    if (size == 0) break;
    at += size;
  }
  return at;
}

size_t BrokenUtf8Prefix(std::string_view text) {
  const size_t size = SizeByLead(ByteAt(text, 0));
  for (size_t i = 1; i < size; ++i) {
    if (i == text.size()) return 0;
    if (!Continues(text, i)) return i;
  }
  return 1;
}

}  // namespace quire
