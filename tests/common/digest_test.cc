// SPDX-License-Identifier: Apache-2.0
#include "common/digest.h"

#include <gtest/gtest.h>

#include <vector>

namespace quire {
namespace {

TEST(TableDigestTest, AddingAndRemovingAnEntryCancels) {
  TableDigest digest;
  digest.Toggle(SlotId(3), 0, 17);
  EXPECT_NE(digest.value(), 0u);
  digest.Toggle(SlotId(3), 0, 17);
  EXPECT_EQ(digest.value(), 0u);
}

TEST(TableDigestTest, OrderDoesNotMatterButEveryFieldDoes) {
  TableDigest forward, backward;
  forward.Toggle(SlotId(1), 0, 5);
  forward.Toggle(SlotId(2), 1, 6);
  backward.Toggle(SlotId(2), 1, 6);
  backward.Toggle(SlotId(1), 0, 5);
  EXPECT_EQ(forward.value(), backward.value());

  TableDigest base, slot, index, block;
  base.Toggle(SlotId(1), 2, 3);
  slot.Toggle(SlotId(2), 2, 3);
  index.Toggle(SlotId(1), 3, 3);
  block.Toggle(SlotId(1), 2, 4);
  EXPECT_NE(base.value(), slot.value());
  EXPECT_NE(base.value(), index.value());
  EXPECT_NE(base.value(), block.value());
}

TEST(TokenDigestTest, DependsOnValuesOrderAndLength) {
  const std::vector<TokenId> tokens = {1, 2, 3};
  const std::vector<TokenId> swapped = {2, 1, 3};
  const std::vector<TokenId> longer = {1, 2, 3, 0};
  EXPECT_EQ(TokenDigest(tokens), TokenDigest(std::vector<TokenId>{1, 2, 3}));
  EXPECT_NE(TokenDigest(tokens), TokenDigest(swapped));
  EXPECT_NE(TokenDigest(tokens), TokenDigest(longer));
  EXPECT_NE(TokenDigest({}), TokenDigest(std::vector<TokenId>{0}));
}

}  // namespace
}  // namespace quire
