// SPDX-License-Identifier: Apache-2.0
#include "common/ids.h"

#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

namespace quire {
namespace {

// Mixing two kinds of number, or a number and an id, must not compile.
static_assert(!std::is_convertible_v<BlockId, SlotId>);
static_assert(!std::is_convertible_v<int32_t, BlockId>);
static_assert(!std::is_convertible_v<BlockId, int32_t>);
static_assert(sizeof(BlockId) == sizeof(int32_t));

TEST(StrongIdTest, ComparesAndHashesLikeItsInteger) {
  EXPECT_LT(BlockId(1), BlockId(2));
  EXPECT_EQ(BlockId(7), BlockId(7));
  const std::unordered_set<BlockId> blocks = {BlockId(1), BlockId(2),
                                              BlockId(1)};
  EXPECT_EQ(blocks.size(), 2u);
}

TEST(StrongIdTest, StartsAtZero) { EXPECT_EQ(StepId().value(), 0u); }

}  // namespace
}  // namespace quire
