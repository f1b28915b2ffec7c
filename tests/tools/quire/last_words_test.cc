// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/last_words.h"

#include <gtest/gtest.h>

namespace quire {
namespace {

TEST(LastWordsTest, TheReasonIsTheNewestLineForPeople) {
  const std::deque<std::string> tail = {"quire_worker: an older one",
                                        "quire_worker: no GPU; --device",
                                        "I1122 a log's line"};
  EXPECT_EQ(ReasonOf(1, tail), "no GPU; --device");
  EXPECT_EQ(ReasonOf(kUsageExit, {"quire_coordinator: no --modle"}),
            "no --modle");
}

TEST(LastWordsTest, WhoCrashedGaveNoReason) {
  EXPECT_EQ(ReasonOf(128 + 9, {"quire_worker: no GPU"}), std::nullopt);
  EXPECT_EQ(ReasonOf(1, {"E1122 a log's line"}), std::nullopt);
  EXPECT_EQ(ReasonOf(1, {}), std::nullopt);
}

TEST(LastWordsTest, KnowsWhoFollowedTheCoordinator) {
  EXPECT_TRUE(LostCoordinator({"a", "E1 lost the coordinator: epoch over"}));
  EXPECT_FALSE(LostCoordinator({"a", "E1 lost the device: gone"}));
}

}  // namespace
}  // namespace quire
