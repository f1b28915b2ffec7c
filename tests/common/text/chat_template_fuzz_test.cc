// SPDX-License-Identifier: Apache-2.0
//
// Any template, and behind a zero byte any message: it is refused in one line,
// or renders UTF-8 within its bound.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/text/chat_template.h"
#include "common/text/utf8.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Memory of intermediate values is not bounded (chat_template.h): a template
// that wants billions of blanks ends any process.
bool HasBigNumber(std::string_view source) {
  int num_digits = 0;
  for (const char c : source) {
    num_digits = c >= '0' && c <= '9' ? num_digits + 1 : 0;
    if (num_digits > 4) return true;
  }
  return false;
}

void Check(std::string_view source, std::string_view message) {
  if (HasBigNumber(source)) return;
  const auto chat_template =
      ChatTemplate::FromString(source, {{"bos_token", "<s>"}});
  if (!chat_template.ok()) {
    CHECK_EQ(chat_template.status().message().find('\n'),
             absl::string_view::npos);
    return;
  }
  ChatRenderOptions options;
  options.max_output_bytes = 4096;
  options.variables_json = R"({"tools": [{"name": "f", "n": 1.5}]})";
  const auto text = (*chat_template)
                        ->Render({{"user", std::string(message), ""},
                                  {"assistant", "x", R"({"name": "y"})"}},
                                 options);
  if (text.ok()) {
    CHECK_LE(text->size(), 4096u);
    CHECK(IsValidUtf8(*text));
  } else {
    CHECK_EQ(text.status().message().find('\n'), absl::string_view::npos);
  }
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(text.find('\0'), text.size());
  quire::Check(text.substr(0, zero),
               text.substr(std::min(zero + 1, text.size())));
  return 0;
}
