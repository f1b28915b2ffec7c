// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/choose_tokens.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/sample.h"

namespace quire {
namespace {

int32_t TokenOf(const ShardSummary& summary) {
  if (std::isnan(summary.raw_max)) return kLogitsNotFinite;
  if (std::isinf(summary.max) && summary.max > 0) return kLogitsOverflow;
  return summary.best_token_id < 0 ? int32_t{kNoToken} : summary.best_token_id;
}

ShardChoice ChoiceOf(const ShardSummary& summary) {
  return {summary.best_noisy, summary.best_token_id, summary.max,
          std::isnan(summary.raw_max) ? 1 : 0};
}

}  // namespace

void ChooseTokensCpu(const ChooseTokensParams& params, const ThreadTeam& team,
                     ThreadScratch* scratch) {
  constexpr int32_t kRows = 64;  // at a time, which costs 6 KB of stack
  SampleRow rows[kRows];
  ShardSummary summaries[kRows];
  for (int32_t begin = 0; begin < params.num_rows; begin += kRows) {
    const int32_t count = std::min(kRows, params.num_rows - begin);
    for (int32_t i = 0; i < count; ++i) {
      const ChoiceRow& choice = params.rows[begin + i];
      rows[i] = {};
      rows[i].seed = choice.seed;
      rows[i].position = choice.position;
      rows[i].temperature = choice.temperature;
      rows[i].repetition_penalty = 1;
    }
    SampleShardParams some = {};
    some.logits = params.logits + int64_t{begin} * params.num_vocab;
    some.first_id = params.first_id;
    some.num_vocab = params.num_vocab;
    some.num_rows = count;
    some.rows = rows;
    some.summaries = summaries;
    SampleShardCpu(some, team, scratch);
    for (int32_t i = 0; i < count; ++i) {
      const int32_t slot = params.rows[begin + i].slot;
      if (slot < 0) continue;
      if (params.choices != nullptr) {
        params.choices[begin + i] = ChoiceOf(summaries[i]);
        continue;
      }
      params.tokens[begin + i] = TokenOf(summaries[i]);
      params.by_slot[slot] = params.tokens[begin + i];
    }
  }
}

void MergeChoicesCpu(const MergeChoicesParams& params) {
  for (int32_t i = 0; i < params.num_rows; ++i) {
    const int32_t slot = params.rows[i].slot;
    if (slot < 0) continue;
    params.tokens[i] =
        MergedToken(params.choices + i, params.num_shards, params.num_rows);
    params.by_slot[slot] = params.tokens[i];
  }
}

}  // namespace quire
