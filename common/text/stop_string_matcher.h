// SPDX-License-Identifier: Apache-2.0
//
// Finds the end of an answer where a client's stop string begins.
#ifndef COMMON_TEXT_STOP_STRING_MATCHER_H_
#define COMMON_TEXT_STOP_STRING_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace quire {

// Passes a sequence's text on, but holds back an ending that may grow into a
// stop string, so that no part of a stop string is ever sent.
//
// The stop string that ends first in the text wins; of those that end at the
// same byte, the longest. So the answer does not depend on how the text was
// divided into tokens. Each byte is looked at once per stop string
// (Knuth-Morris-Pratt).
//
// Thread-compatible. One per sequence; copying one forks it.
class StopStringMatcher final {
 public:
  static constexpr size_t kMaxStops = 16;
  static constexpr size_t kMaxStopBytes = 256;

  struct Match {
    std::string stop_string;
    // The index that the caller gave for the token which completed it.
    int64_t token_index;
  };

  struct Output {
    std::string text;            // to send; whole characters if the input is
    std::optional<Match> match;  // set once: nothing follows it
  };

  // InvalidArgument if there are more than kMaxStops strings, or one is empty,
  // longer than kMaxStopBytes or not UTF-8. `include_stop_string` sends the
  // stop string itself too.
  static absl::StatusOr<StopStringMatcher> Create(
      const std::vector<std::string>& stops, bool include_stop_string);

  // Takes the text that output token number `token_index` completed. After a
  // match it gives nothing more.
  Output Append(std::string_view text, int64_t token_index);

  // Gives up the text held back: the sequence ended for another reason.
  std::string Flush();

  bool matched() const { return matched_; }

 private:
  struct Pattern {
    std::string text;
    // [text.size()] failure[i]: length of the longest proper prefix that ends
    // at byte i.
    std::vector<uint16_t> failure;
    size_t matched = 0;  // bytes of `text` at the end of the input so far
  };

  StopStringMatcher(std::vector<Pattern> patterns, bool include_stop_string)
      : patterns_(std::move(patterns)),
        include_stop_string_(include_stop_string) {}

  static void Advance(char byte, Pattern* pattern);

  std::vector<Pattern> patterns_;
  bool include_stop_string_;
  std::string held_;  // the end of the input, not given out yet
  bool matched_ = false;
};

}  // namespace quire

#endif  // COMMON_TEXT_STOP_STRING_MATCHER_H_
