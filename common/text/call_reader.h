// SPDX-License-Identifier: Apache-2.0
//
// Reads one tool call that is written as JSON, while it is being written.
#ifndef COMMON_TEXT_CALL_READER_H_
#define COMMON_TEXT_CALL_READER_H_

#include <string>
#include <string_view>
#include <utility>

#include "common/text/json_scanner.h"

namespace quire {

// {"name": ..., "arguments": {...}} with its keys in any order; "parameters"
// does for "arguments", an object in quotes for the object. Of a key that comes
// again the first value counts.
//
// Thread-compatible value.
class CallReader final {
 public:
  CallReader() = default;
  // For arguments alone, of a call whose name came before them.
  explicit CallReader(std::string name)
      : name_(std::move(name)), is_bare_(true) {}

  // kBad: the byte cannot follow, or closes what has no name or no arguments.
  // REQUIRES: the last state was kMore.
  JsonScanner::State Push(char c);

  // Whether this is a call whatever follows: its name and the first byte inside
  // of its arguments have come.
  bool is_call() const { return is_call_; }
  const std::string& name() const { return name_; }
  // The model's, if it came before the name and arguments; or empty.
  const std::string& id() const { return id_; }
  // What has come of the arguments since the last time, as the model spelled
  // them; all together an object, or the beginning of one.
  std::string TakeArguments() { return std::exchange(arguments_, {}); }

 private:
  // A string that stands in the call itself is over.
  void EndString();
  void TakeArgumentByte(char c, bool is_last);

  std::string name_;
  bool is_bare_ = false;
  std::string id_;
  JsonScanner scanner_;
  std::string string_;  // one that stands in the call itself, with its quotes
  std::string key_;
  bool in_arguments_ = false;
  bool has_arguments_ = false;  // at least their beginning
  int num_argument_marks_ = 0;  // bytes but for white space, up to 2
  std::string arguments_;       // not taken yet
  bool is_call_ = false;
};

}  // namespace quire

#endif  // COMMON_TEXT_CALL_READER_H_
