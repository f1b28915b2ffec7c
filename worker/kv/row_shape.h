// SPDX-License-Identifier: Apache-2.0
//
// How the rows of a virtual cache lie over pages.
#ifndef WORKER_KV_ROW_SHAPE_H_
#define WORKER_KV_ROW_SHAPE_H_

#include <cstdint>

#include "kernels/kv_layout.h"

namespace quire {

// A row's tokens lie one after the other; memory is put behind them a page
// group at a time, the nth group holding the nth `group_tokens` tokens. A group
// is one page unless a token is so large that whole tokens would leave too much
// of a page empty; then it is a few.
struct RowShape {
  int64_t page_bytes = 0;
  int32_t group_pages = 0;   // pages of a group
  int32_t group_tokens = 0;  // whole tokens that a group holds, at least one
  int32_t row_groups = 0;    // of a whole row
  KvLayout layout;           // tokens in order; block_size: tokens of a row

  int64_t GroupBytes() const { return group_pages * page_bytes; }
  int64_t RowPages() const { return int64_t{row_groups} * group_pages; }
};

// Rows of `max_model_len` tokens of the model that `blocks` is a layout of.
// REQUIRES: page_bytes is a multiple of 64 bytes, and all is positive.
RowShape MakeRowShape(const KvLayout& blocks, int64_t page_bytes,
                      int32_t max_model_len);

}  // namespace quire

#endif  // WORKER_KV_ROW_SHAPE_H_
