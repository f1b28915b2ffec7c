// SPDX-License-Identifier: Apache-2.0
//
// What shards should list, and what should be chosen from their lists
// (kernels/listed_choice.h), over host memory.
#ifndef TESTS_REFERENCE_LISTED_CHOICE_H_
#define TESTS_REFERENCE_LISTED_CHOICE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/listed_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire::reference {

// Best first.
inline void ListTokens(const ListTokensParams& p) {
  for (int32_t i = 0; i < p.num_rows; ++i) {
    const ShapedRow& row = p.rows[i];
    const float* const raw = p.logits + int64_t{row.row} * p.num_vocab;
    ListedToken* const out = p.lists + int64_t{i} * (1 + p.max_tokens);
    ListedShard& shard = reinterpret_cast<ListedShard&>(*out);
    std::vector<ListedToken> sorted;
    if (!SortRow(raw, p.num_vocab, row, /*allowed=*/nullptr, &sorted)) {
      shard = {0, kLogitsNotFinite};
      continue;
    }
    sorted.resize(std::min<size_t>(sorted.size(), row.top_k));
    shard.max = p.num_vocab == 0 ? -kInfinity
                                 : *std::max_element(raw, raw + p.num_vocab);
    shard.num_tokens = static_cast<int32_t>(sorted.size());
    for (size_t j = 0; j < sorted.size(); ++j) {
      out[1 + j] = {sorted[j].logit, p.first_id + sorted[j].token_id};
    }
  }
}

inline int32_t MergeList(const MergeListsParams& p, int32_t i) {
  std::vector<ListedToken> tokens;
  for (int32_t shard = 0; shard < p.num_shards; ++shard) {
    const ListedToken* const list =
        p.lists + (int64_t{shard} * p.num_rows + i) * (1 + p.max_tokens);
    const int32_t count =
        reinterpret_cast<const ListedShard&>(*list).num_tokens;
    if (count < 0) return count;
    tokens.insert(tokens.end(), list + 1, list + 1 + count);
  }
  Sort(&tokens);
  return ChooseSorted(p.rows[i], tokens).token;
}

inline void MergeLists(const MergeListsParams& p) {
  for (int32_t i = 0; i < p.num_rows; ++i) {
    const int32_t token = MergeList(p, i);
    p.tokens[p.rows[i].row] = token;
    p.by_slot[p.rows[i].slot] = token;
  }
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_LISTED_CHOICE_H_
