// SPDX-License-Identifier: Apache-2.0
//
// Finds tool calls in what a model writes, while it writes it.
#ifndef COMMON_TEXT_TOOL_CALL_PARSER_H_
#define COMMON_TEXT_TOOL_CALL_PARSER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/text/json_scanner.h"

namespace quire {

// How a family of models writes calls.
enum class ToolCallFormat {
  kNone,
  // <tool_call>{"name": ..., "arguments": {...}}</tool_call>: Hermes, Qwen.
  kHermes,
  // {"name": ..., "parameters": {...}} at the beginning of the answer, or
  // anywhere after <|python_tag|>; several are parted by ';'.
  kLlama3,
  // [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...], or
  // [TOOL_CALLS]name[ARGS]{...} for each call.
  kMistral,
};

// "none", "hermes", "llama3" or "mistral".
absl::StatusOr<ToolCallFormat> ParseToolCallFormat(std::string_view name);
std::string_view ToolCallFormatName(ToolCallFormat format);

// The format that a chat template teaches its model, by the marks in it.
ToolCallFormat DetectToolCallFormat(std::string_view chat_template);

// Spellings of tokens that begin calls or stand in them. They are special in
// some vocabularies, and then have to be shown for a call to be seen.
std::vector<std::string_view> ToolCallMarks(ToolCallFormat format);

struct ParsedToolCall {
  int32_t index = 0;  // in the answer
  std::string id;     // the model's, or a new one
  std::string name;
  std::string arguments_json;  // an object, as the model spelled it
};

struct ToolCallOutput {
  std::string text;
  std::vector<ParsedToolCall> calls;
};

// Parts an answer into text and calls. A call comes when it is whole: what
// turns out not to be one, because it is no JSON, has no name or arguments that
// are no object, is text like any other. White space before a call, and
// after one at the end, is dropped. The output does not depend on where the
// input is cut, and each byte is looked at a bounded number of times.
//
// Thread-compatible value.
class ToolCallParser final {
 public:
  // Ids are made from `id_seed` and the call's index.
  explicit ToolCallParser(ToolCallFormat format, uint64_t id_seed = 0)
      : format_(format), id_seed_(id_seed) {}

  ToolCallOutput Append(std::string_view text);
  // The answer is over: what was held back.
  ToolCallOutput Finish();

  int32_t num_calls() const { return num_calls_; }

 private:
  enum class State {
    kText,
    kBody,    // JSON of calls, begun or to begin
    kName,    // Mistral: a tool's name
    kArgs,    // Mistral: [ARGS], perhaps
    kEndTag,  // Hermes: </tool_call>
  };

  void Push(char c, ToolCallOutput* output);
  void PushText(char c, ToolCallOutput* output);
  // Each returns whether `c` belongs to a call.
  bool PushBody(char c, ToolCallOutput* output);
  bool PushName(char c);
  bool PushArgs(char c);
  bool PushEndTag(char c, ToolCallOutput* output);

  void BeginBody();
  // What is held is text.
  void Release(ToolCallOutput* output);
  // What is held is a call, or text.
  void TakeCalls(ToolCallOutput* output);
  std::string NewId(int32_t index) const;
  bool ParseBody(std::vector<ParsedToolCall>* calls) const;

  ToolCallFormat format_;
  uint64_t id_seed_;
  State state_ = State::kText;
  int32_t num_calls_ = 0;
  bool wrote_text_ = false;
  bool after_call_ = false;  // but for white space, held
  std::string held_;         // not yet known to be text
  size_t matched_ = 0;       // bytes of a mark at the end of `held_`
  size_t body_begin_ = 0;    // in `held_`
  size_t body_end_ = 0;
  JsonScanner scanner_;
  std::string name_;  // Mistral's, before its arguments
};

}  // namespace quire

#endif  // COMMON_TEXT_TOOL_CALL_PARSER_H_
