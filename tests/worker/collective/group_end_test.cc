// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/group_end.h"

#include <thread>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(GroupEndTest, ItLastsUntilItIsAnnounced) {
  GroupEnd end;
  EXPECT_TRUE(end.status().ok());
  EXPECT_TRUE(end.Await(absl::Milliseconds(1)).ok());
  end.Announce(absl::UnavailableError("first"));
  EXPECT_EQ(end.status().message(), "first");
  EXPECT_EQ(end.Await(absl::InfiniteDuration()).message(), "first");
}

TEST(GroupEndTest, TheFirstCauseStays) {
  GroupEnd end;
  end.Announce(absl::UnavailableError("first"));
  end.Announce(absl::CancelledError("second"));
  EXPECT_EQ(end.status().message(), "first");
}

TEST(GroupEndTest, WhoeverWaitsIsWoken) {
  GroupEnd end;
  std::thread waiter([&] {
    EXPECT_EQ(end.Await(absl::InfiniteDuration()).message(), "over");
  });
  end.Announce(absl::UnavailableError("over"));
  waiter.join();
}

}  // namespace
}  // namespace quire
