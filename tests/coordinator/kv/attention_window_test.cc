// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/attention_window.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(AttentionWindowTest, TheNextTokenSeesItselfAndThoseBefore) {
  EXPECT_EQ(FirstSeenToken(/*num_computed=*/10, /*window=*/0), 0);
  EXPECT_EQ(FirstSeenToken(10, 1), 10);
  EXPECT_EQ(FirstSeenToken(10, 4), 7);
  EXPECT_EQ(FirstSeenToken(10, 11), 0);
  EXPECT_EQ(FirstSeenToken(0, 4), 0);
}

TEST(AttentionWindowTest, ARunOfTokensLiesInNoMoreBlocksThanTheWorst) {
  for (int block_size : {1, 2, 4, 16}) {
    for (int num_tokens = 1; num_tokens < 70; ++num_tokens) {
      int most = 0;
      for (int first = 0; first < block_size; ++first) {
        most = std::max(most, (first + num_tokens - 1) / block_size + 1);
      }
      EXPECT_EQ(MostBlocksOver(num_tokens, block_size), most)
          << num_tokens << " tokens in blocks of " << block_size;
    }
  }
}

}  // namespace
}  // namespace quire
