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
#include "common/text/call_reader.h"

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

// More of a call. All pieces of an index together are the call.
struct ToolCallPiece {
  int32_t index = 0;  // of the call, in the answer
  // In a call's first piece alone: the model's if it came before the arguments,
  // or a new one.
  std::string id;
  std::string name;       // in a call's first piece alone
  std::string arguments;  // more of an object, as the model spelled it
};

struct ToolCallOutput {
  std::string text;
  std::vector<ToolCallPiece> calls;  // at most one piece of each
};

// Parts an answer into text and calls. A call begins to come with its name and
// the first of its arguments; what turns out before that not to be one, because
// it is no JSON, has no name or arguments that are no object, is text like any
// other. A call that breaks later, or is cut off, keeps the arguments that it
// has got, and what follows is text. White space before a call, and after one
// at the end, is dropped. The output in sum does not depend on where the input
// is cut, and each byte is looked at a bounded number of times.
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
  bool PushEndTag(char c);
  bool PushItems(char c, ToolCallOutput* output);
  bool PushCall(char c, ToolCallOutput* output);

  void BeginBody();
  // What is held is text.
  void Release(ToolCallOutput* output);
  // What is held belongs to the calls before it.
  void EndCalls();
  std::string NewId(int32_t index) const;

  ToolCallFormat format_;
  uint64_t id_seed_;
  State state_ = State::kText;
  int32_t num_calls_ = 0;
  bool wrote_text_ = false;
  bool after_call_ = false;  // but for white space, held
  std::string held_;         // not yet known to be text
  size_t matched_ = 0;       // bytes of a mark at the end of `held_`
  std::string name_;         // Mistral's, before its arguments
  // Mistral's array, between its calls: what may come next.
  enum class Items { kNone, kFirst, kSeparator, kNext };
  Items items_ = Items::kNone;
  bool in_call_ = false;    // bytes are the reader's
  bool is_sent_ = false;    // the first piece of the reader's call has gone out
  bool has_calls_ = false;  // of this body
  CallReader reader_;
};

}  // namespace quire

#endif  // COMMON_TEXT_TOOL_CALL_PARSER_H_
