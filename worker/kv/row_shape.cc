// SPDX-License-Identifier: Apache-2.0
#include "worker/kv/row_shape.h"

#include "glog/logging.h"

namespace quire {
namespace {

// Of a group's bytes, at most 1 in so many may be empty.
constexpr int64_t kEmptyShare = 16;
constexpr int32_t kMostGroupPages = 64;

}  // namespace

RowShape MakeRowShape(const KvLayout& blocks, int64_t page_bytes,
                      int32_t max_model_len) {
  RowShape shape;
  shape.page_bytes = page_bytes;
  shape.layout = blocks;
  shape.layout.order = KvOrder::kTokens;
  const int64_t token_bytes = shape.layout.TokenStride() * SizeOf(blocks.dtype);
  CHECK_GT(token_bytes, 0);
  CHECK_GT(page_bytes, 0);
  CHECK_GT(max_model_len, 0);
  double best_empty = 2;
  for (int32_t pages = 1; pages <= kMostGroupPages || best_empty > 1; ++pages) {
    const int64_t bytes = pages * page_bytes;
    const int64_t num_tokens = bytes / token_bytes;
    if (num_tokens == 0) continue;
    const int64_t empty_bytes = bytes - num_tokens * token_bytes;
    const double empty = static_cast<double>(empty_bytes) / bytes;
    if (empty >= best_empty) continue;
    best_empty = empty;
    shape.group_pages = pages;
    shape.group_tokens = static_cast<int32_t>(num_tokens);
    if (empty_bytes * kEmptyShare <= bytes) break;
  }
  // Kernels like rows of whole fours.
  shape.layout.block_size = (max_model_len + 3) / 4 * 4;
  shape.row_groups = (shape.layout.block_size - 1) / shape.group_tokens + 1;
  // Kernels count a cache in heads of a token: a row holds a whole number.
  const int64_t head_bytes = int64_t{blocks.head_dim} * SizeOf(blocks.dtype);
  while (shape.RowPages() * page_bytes % head_bytes != 0) ++shape.row_groups;
  const int64_t row_bytes = shape.RowPages() * page_bytes;
  const int64_t tokens_bytes = shape.layout.block_size * token_bytes;
  CHECK_EQ((row_bytes - tokens_bytes) % SizeOf(blocks.dtype), 0);
  shape.layout.block_padding =
      (row_bytes - tokens_bytes) / SizeOf(blocks.dtype);
  return shape;
}

}  // namespace quire
