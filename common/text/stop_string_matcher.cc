// SPDX-License-Identifier: Apache-2.0
#include "common/text/stop_string_matcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/text/utf8.h"

namespace quire {
namespace {

std::vector<uint16_t> FailureFunction(const std::string& text) {
  std::vector<uint16_t> failure(text.size(), 0);
  size_t length = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (length > 0 && text[i] != text[length]) length = failure[length - 1];
    if (text[i] == text[length]) ++length;
    failure[i] = static_cast<uint16_t>(length);
  }
  return failure;
}

}  // namespace

absl::StatusOr<StopStringMatcher> StopStringMatcher::Create(
    const std::vector<std::string>& stops, bool include_stop_string) {
  if (stops.size() > kMaxStops) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop: ", stops.size(), " strings, at most ", kMaxStops));
  }
  std::vector<Pattern> patterns;
  for (size_t i = 0; i < stops.size(); ++i) {
    const std::string& stop = stops[i];
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "]: ", stop.size(),
                       " bytes, must have 1 to ", kMaxStopBytes));
    }
    if (!IsValidUtf8(stop)) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop[", i, "] is not UTF-8"));
    }
    patterns.push_back({stop, FailureFunction(stop)});
  }
  return StopStringMatcher(std::move(patterns), include_stop_string);
}

void StopStringMatcher::Advance(char byte, Pattern* pattern) {
  size_t& matched = pattern->matched;
  while (matched > 0 && pattern->text[matched] != byte) {
    matched = pattern->failure[matched - 1];
  }
  if (pattern->text[matched] == byte) ++matched;
}

StopStringMatcher::Output StopStringMatcher::Append(std::string_view text,
                                                    int64_t token_index) {
  Output output;
  if (matched_) return output;
  if (patterns_.empty()) {
    output.text = std::string(text);
    return output;
  }
  for (const char byte : text) {
    held_ += byte;
    const Pattern* winner = nullptr;
    for (Pattern& pattern : patterns_) {
      Advance(byte, &pattern);
      if (pattern.matched == pattern.text.size() &&
          (winner == nullptr || pattern.text.size() > winner->text.size())) {
        winner = &pattern;
      }
    }
    if (winner == nullptr) continue;
    matched_ = true;
    if (!include_stop_string_) held_.resize(held_.size() - winner->text.size());
    output.text = std::exchange(held_, "");
    output.match = Match{winner->text, token_index};
    return output;
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) {
    keep = std::max(keep, pattern.matched);
  }
  output.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return output;
}

std::string StopStringMatcher::Flush() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return std::exchange(held_, "");
}

}  // namespace quire
