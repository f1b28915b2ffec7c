// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/kv_breakdown.h"

#include <algorithm>
#include <variant>
#include <vector>

namespace quire {
namespace {

// How far one holder fills a block, now and at its end.
struct Fill {
  BlockId block;
  int32_t num_stored = 0;  // [0, block_size]
  int32_t num_final = 0;   // [num_stored, block_size]
};

void AddFills(const std::vector<BlockId>& table, const KvLengths& lengths,
              int32_t block_size, std::vector<Fill>* fills) {
  int32_t begin = 0;
  for (BlockId block : table) {
    const int32_t num_stored =
        std::clamp(lengths.num_computed - begin, 0, block_size);
    const int32_t num_final =
        std::clamp(lengths.num_final - begin, num_stored, block_size);
    fills->push_back({block, num_stored, num_final});
    begin += block_size;
  }
}

}  // namespace

KvBreakdown BreakDown(const KvManager& manager,
                      absl::Span<const KvLengths> sequences) {
  const int32_t block_size = manager.block_size();
  KvBreakdown breakdown;
  int64_t num_to_come = 0;
  std::vector<Fill> fills;
  for (const KvLengths& lengths : sequences) {
    breakdown.num_logical_states += lengths.num_computed;
    const CachePlacement placement = manager.Placement(lengths.slot);
    if (const auto* table = std::get_if<std::vector<BlockId>>(&placement)) {
      AddFills(*table, lengths, block_size, &fills);
      continue;
    }
    const int64_t num_held =
        int64_t{manager.NumBlocks(lengths.slot)} * block_size;
    breakdown.num_token_states += lengths.num_computed;
    num_to_come +=
        std::max<int64_t>(0, std::min<int64_t>(lengths.num_final, num_held) -
                                 lengths.num_computed);
  }
  // A block that several hold counts once, as far as the furthest fills it.
  std::sort(fills.begin(), fills.end(),
            [](const Fill& a, const Fill& b) { return a.block < b.block; });
  for (size_t idx = 0; idx < fills.size();) {
    Fill fill = fills[idx];
    for (; idx < fills.size() && fills[idx].block == fill.block; ++idx) {
      fill.num_stored = std::max(fill.num_stored, fills[idx].num_stored);
      fill.num_final = std::max(fill.num_final, fills[idx].num_final);
    }
    breakdown.num_token_states += fill.num_stored;
    num_to_come += fill.num_final - fill.num_stored;
  }
  const KvUsage usage = manager.Usage();
  breakdown.num_reserved = num_to_come;
  breakdown.num_internal = int64_t{usage.num_held} * block_size -
                           breakdown.num_token_states - num_to_come;
  breakdown.num_cached = int64_t{usage.num_cached} * block_size;
  breakdown.num_unheld = int64_t{usage.num_free} * block_size;
  breakdown.num_slots = int64_t{usage.num_blocks} * block_size;
  return breakdown;
}

}  // namespace quire
