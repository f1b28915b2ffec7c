// SPDX-License-Identifier: Apache-2.0
#include "common/sparse_attention.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(SparseAttentionTest, NothingIsOffAndAFlagIsReadBack) {
  EXPECT_EQ(ParseSparseAttention("").value(), 0);
  EXPECT_EQ(ParseSparseAttention("top_pages:4").value(), 4);
  EXPECT_EQ(ParseSparseAttention("top_pages:256").value(), 256);
  EXPECT_EQ(SparseAttentionFlag(256), "--sparse_attention=top_pages:256");
}

TEST(SparseAttentionTest, OtherValuesAreRefusedWithWhatMayBe) {
  for (const char* value :
       {"top_pages", "top_pages:", "top_pages:3", "top_pages:0", "top_pages:-8",
        "top_pages: 8", "top_pages:8 ", "top_pages:+8", "top_pages:8k",
        "top_pages:99999999999", "TOP_PAGES:8", "8"}) {
    EXPECT_EQ(ParseSparseAttention(value).status().message(),
              std::string("--sparse_attention=") + value +
                  ": it may be top_pages:K, where a decode reads K KV blocks, "
                  "at least 4; or empty");
  }
}

TEST(SparseAttentionTest, APromptAndAContextOfFewPagesAreDense) {
  EXPECT_EQ(FirstSparsePosition(4, 16, 10), 64);
  EXPECT_EQ(FirstSparsePosition(4, 16, 64), 64);
  EXPECT_EQ(FirstSparsePosition(4, 16, 65), 65);
  EXPECT_EQ(FirstSparsePosition(1 << 30, 256, 10), INT32_MAX);
}

}  // namespace
}  // namespace quire
