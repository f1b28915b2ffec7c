// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/last_words.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace quire {
namespace {

constexpr int kFailureExit = 1;

}  // namespace

std::optional<std::string> ReasonOf(int exit_code,
                                    const std::deque<std::string>& tail) {
  if (exit_code != kFailureExit && exit_code != kUsageExit) return std::nullopt;
  for (auto line = tail.rbegin(); line != tail.rend(); ++line) {
    absl::string_view text = *line;
    if (absl::ConsumePrefix(&text, "quire_coordinator: ") ||
        absl::ConsumePrefix(&text, "quire_worker: ")) {
      return std::string(text);
    }
  }
  return std::nullopt;
}

bool LostCoordinator(const std::deque<std::string>& tail) {
  return std::any_of(tail.begin(), tail.end(), [](const std::string& line) {
    return absl::StrContains(line, "lost the coordinator: ");
  });
}

}  // namespace quire
