// SPDX-License-Identifier: Apache-2.0
//
// Any answer, cut anywhere, parses as the whole does; without a call it is the
// text.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/text/json_scanner.h"
#include "common/text/tool_call_parser.h"
#include "glog/logging.h"

namespace quire {
namespace {

struct Parsed {
  std::string text;
  std::string calls;

  void Take(const ToolCallOutput& output) {
    text += output.text;
    for (const ToolCallPiece& piece : output.calls) {
      const bool is_first = piece.index == num_calls;
      CHECK_EQ(!piece.name.empty(), is_first);
      CHECK_EQ(!piece.id.empty(), is_first);
      if (is_first) {
        EndCall();
        ++num_calls;
      }
      CHECK_EQ(piece.index, num_calls - 1);
      arguments += piece.arguments;
      calls += piece.id + piece.name + piece.arguments;
    }
  }
  // Arguments are an object, or may still become one.
  void EndCall() {
    JsonScanner scanner;
    for (size_t i = 0; i < arguments.size(); ++i) {
      const JsonScanner::State state = scanner.Push(arguments[i]);
      CHECK(state != JsonScanner::State::kBad) << arguments;
      if (state == JsonScanner::State::kDone) {
        CHECK_EQ(arguments.find_first_not_of(" \n\r\t", i + 1),
                 std::string::npos)
            << arguments;
        break;
      }
    }
    arguments.clear();
  }

  int num_calls = 0;
  std::string arguments;  // of the last call
};

void Check(ToolCallFormat format, size_t step, std::string_view text) {
  ToolCallParser whole_parser(format, 1);
  Parsed whole;
  whole.Take(whole_parser.Append(text));
  whole.Take(whole_parser.Finish());
  whole.EndCall();
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
