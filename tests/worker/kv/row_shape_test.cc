// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/row_shape.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

KvLayout Blocks(int32_t num_layers, int32_t num_kv_heads, int32_t head_dim,
                DType dtype = DType::kBf16) {
  return {num_layers, num_kv_heads, head_dim, /*block_size=*/16, dtype};
}

TEST(RowShapeTest, ATwoMebibytePageHolds16TokensOfAnEightBillionLlama) {
  const RowShape shape = MakeRowShape(Blocks(32, 8, 128), 2 << 20, 8192);
  EXPECT_EQ(shape.group_pages, 1);
  EXPECT_EQ(shape.group_tokens, 16);
  EXPECT_EQ(shape.row_groups, 512);
  EXPECT_EQ(shape.layout.block_size, 8192);
  EXPECT_EQ(shape.layout.block_padding, 0);
}

TEST(RowShapeTest, TokensThatWasteAPageShareAFew) {
  // OPT-13B: 819,200 bytes a token, 2.56 to a page. Five tokens fill all but a
  // fortieth of two pages.
  const RowShape shape = MakeRowShape(Blocks(40, 40, 128), 2 << 20, 2048);
  EXPECT_EQ(shape.group_pages, 2);
  EXPECT_EQ(shape.group_tokens, 5);
}

TEST(RowShapeTest, ATokenMayBeLargerThanAPage) {
  const RowShape shape = MakeRowShape(Blocks(40, 40, 128), 4096, 2048);
  EXPECT_EQ(shape.group_pages, 200);
  EXPECT_EQ(shape.group_tokens, 1);
}

TEST(RowShapeTest, AGroupsMemoryHoldsItsTokensAndRowsStartOnPages) {
  for (const KvLayout& blocks :
       {Blocks(5, 2, 64), Blocks(3, 1, 20), Blocks(40, 40, 128),
        Blocks(7, 3, 80, DType::kF32)}) {
    for (int64_t page_bytes : {4096, 12288, 65536, 2 << 20}) {
      for (int32_t max_model_len : {1, 255, 2048}) {
        const RowShape shape = MakeRowShape(blocks, page_bytes, max_model_len);
        const int64_t size = SizeOf(blocks.dtype);
        const int64_t token_bytes = shape.layout.TokenStride() * size;
        EXPECT_GE(shape.group_tokens, 1);
        EXPECT_GE(shape.layout.block_size, max_model_len);
        EXPECT_EQ(shape.layout.BlockStride() * size,
                  shape.RowPages() * page_bytes);
        EXPECT_EQ(shape.layout.BlockStride() % blocks.head_dim, 0);
        // The last byte of the nth group's last token lies in its pages.
        for (int32_t groups = 1; groups <= shape.row_groups; ++groups) {
          EXPECT_LE(groups * int64_t{shape.group_tokens} * token_bytes,
                    groups * shape.GroupBytes());
        }
        EXPECT_GE(int64_t{shape.row_groups} * shape.group_tokens,
                  shape.layout.block_size);
      }
    }
  }
}

}  // namespace
}  // namespace quire
