// SPDX-License-Identifier: Apache-2.0
//
// Which pages a sparse row reads: see SparseRows in kernels/attention.h.
#ifndef KERNELS_CPU_PAGE_SELECT_H_
#define KERNELS_CPU_PAGE_SELECT_H_

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/cpu/scratch.h"

namespace quire {

// A token's query heads of one KV head.
struct PageQuery {
  const AttentionParams* params;
  const int32_t* block_table;  // of the token's sequence
  int64_t token;               // row of q
  int32_t position;            // of the token
  int32_t kv_head;
};

// What calls reuse, by thread.
struct PageWorkspace {
  explicit PageWorkspace(int num_threads)
      : scores(num_threads), order(num_threads) {}

  ThreadScratch scores;
  ThreadScratch order;
};

// The row's block table, shortened to the pages that it reads, in the order of
// the context: `table` [params->sparse.num_pages]. Its own page comes last.
// REQUIRES: the context has more pages, and num_pages > 3.
void SelectPages(const PageQuery& query, int thread, PageWorkspace* workspace,
                 int32_t* table);

}  // namespace quire

#endif  // KERNELS_CPU_PAGE_SELECT_H_
