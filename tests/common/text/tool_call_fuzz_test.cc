// SPDX-License-Identifier: Apache-2.0
//
// Any answer, cut anywhere, parses as the whole does; without a call it is the
// text.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/text/tool_call_parser.h"
#include "glog/logging.h"

namespace quire {
namespace {

struct Parsed {
  std::string text;
  std::string calls;

  void Take(const ToolCallOutput& output) {
    text += output.text;
    for (const ParsedToolCall& call : output.calls) {
      CHECK(!call.name.empty());
      CHECK(nlohmann::json::parse(call.arguments_json, nullptr, false)
                .is_object());
      calls += call.id + call.name + call.arguments_json + ";";
    }
  }
};

void Check(ToolCallFormat format, size_t step, std::string_view text) {
  ToolCallParser whole_parser(format, 1);
  Parsed whole;
  whole.Take(whole_parser.Append(text));
  whole.Take(whole_parser.Finish());
  ToolCallParser parser(format, 1);
  Parsed pieces;
  for (size_t at = 0; at < text.size(); at += step) {
    pieces.Take(parser.Append(text.substr(at, step)));
  }
  pieces.Take(parser.Finish());
  CHECK_EQ(pieces.text, whole.text);
  CHECK_EQ(pieces.calls, whole.calls);
  if (whole.calls.empty()) CHECK_EQ(whole.text, std::string(text));
}

}  // namespace
}  // namespace quire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  quire::Check(static_cast<quire::ToolCallFormat>(data[0] % 4),
               1 + data[0] / 4 % 8,
               {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
