// SPDX-License-Identifier: Apache-2.0
//
// Why a coordinator or worker ended, as far as its standard error tells.
#ifndef TOOLS_QUIRE_LAST_WORDS_H_
#define TOOLS_QUIRE_LAST_WORDS_H_

#include <deque>
#include <optional>
#include <string>

namespace quire {

// Of wrong usage, that is of flags that were not taken.
inline constexpr int kUsageExit = 2;

// What a child that gave up said to people, in one line, about why. nullopt of
// one that crashed or just ended. `tail` are its newest lines, oldest first.
std::optional<std::string> ReasonOf(int exit_code,
                                    const std::deque<std::string>& tail);

// Whether it ended because the coordinator had, or had ended its epoch.
bool LostCoordinator(const std::deque<std::string>& tail);

}  // namespace quire

#endif  // TOOLS_QUIRE_LAST_WORDS_H_
