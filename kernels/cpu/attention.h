// SPDX-License-Identifier: Apache-2.0
//
// Paged attention on the CPU: prefill chunks and decodes by the same kernels.
//
// The context is cut into splits of kAttentionSplit positions by position,
// never by block, chunk or load. Each split yields an online softmax state (o,
// m, d) per row (a token's query head); states are merged in order of position.
// One vector lane adds up one output element, in order of position. So a row's
// result does not depend on block size, chunking, batch or threads: bitwise.
//
// A sparse row has a block table of its own, shortened to the pages that it
// reads (page_select.h), and is a tile by itself; positions are then those of
// the shortened context.
#ifndef KERNELS_CPU_ATTENTION_H_
#define KERNELS_CPU_ATTENTION_H_

#include "kernels/attention.h"
#include "kernels/cpu/page_select.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

constexpr int32_t kAttentionSplit = 256;

// What calls reuse.
struct AttentionWorkspace {
  explicit AttentionWorkspace(int num_threads)
      : per_thread(num_threads), pages(num_threads) {}

  ThreadScratch per_thread;
  ScratchBuffer states;  // one per split, when splits run side by side
  ScratchBuffer first_items;
  PageWorkspace pages;
  ScratchBuffer page_tables;  // one per sparse row and KV head
};

// Model dtype: the cache layout's. REQUIRES: every sequence's context holds its
// new tokens, and block_tables cover the context.
void AttentionCpu(const AttentionParams& params, const ThreadTeam& team,
                  AttentionWorkspace* workspace);

}  // namespace quire

#endif  // KERNELS_CPU_ATTENTION_H_
