// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/key_table.h"

#include <gtest/gtest.h>

#include <thread>

namespace quire {
namespace {

TEST(KeyTableTest, ValuesComeInTheOrderOfTheKeys) {
  KeyTable table;
  ASSERT_TRUE(table.Put("a", "1").ok());
  std::thread late([&] { EXPECT_TRUE(table.Put("b", "2").ok()); });
  const auto values = table.Get({"b", "a"}, absl::InfiniteDuration());
  late.join();
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(*values, (std::vector<std::string>{"2", "1"}));
}

TEST(KeyTableTest, AKeyIsPutOnce) {
  KeyTable table;
  EXPECT_TRUE(table.Put("a", "1").ok());
  EXPECT_TRUE(table.Put("a", "1").ok());
  EXPECT_EQ(table.Put("a", "2").code(), absl::StatusCode::kAlreadyExists);
}

TEST(KeyTableTest, AKeyThatNeverComesIsWaitedForNoLonger) {
  KeyTable table;
  EXPECT_EQ(table.Get({"a"}, absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace quire
