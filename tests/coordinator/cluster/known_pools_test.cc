// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/known_pools.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(KnownPoolsTest, TheFirstGroupOfAMachineSpeaksForAll) {
  KnownPools pools;
  EXPECT_EQ(pools.Find({"a:1", "a:2"}), 0);
  pools.Note({"a:1", "a:2"}, 32);
  pools.Note({"a:3", "a:4"}, 20);
  EXPECT_EQ(pools.Find({"a:5", "a:6"}), 32);
}

TEST(KnownPoolsTest, AnotherMachineHasItsOwn) {
  KnownPools pools;
  pools.Note({"a:1"}, 32);
  pools.Note({"a:1", "b:1"}, 50);
  EXPECT_EQ(pools.Find({"b:1"}), 0);
  EXPECT_EQ(pools.Find({"b:7", "a:8"}), 50);
}

}  // namespace
}  // namespace quire
