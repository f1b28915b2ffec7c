// SPDX-License-Identifier: Apache-2.0
//
// Logits as the ranks of a group have them: columns of a vocabulary that is cut
// as models cut it, the last rank's fewer.
#ifndef TESTS_WORKER_SAMPLER_SHARDED_LOGITS_H_
#define TESTS_WORKER_SAMPLER_SHARDED_LOGITS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "worker/model/model.h"

namespace quire {

inline VocabShard ShardOf(int32_t vocab, int32_t rank, int32_t world) {
  const int32_t most = (vocab + world - 1) / world;
  return {rank * most, std::min(most, vocab - rank * most)};
}

// A shard's columns of logits [rows, vocab].
inline std::vector<float> ColumnsOf(const std::vector<float>& logits,
                                    int32_t vocab, const VocabShard& shard) {
  std::vector<float> own;
  for (auto row = logits.begin(); row != logits.end(); row += vocab) {
    own.insert(own.end(), row + shard.first_id,
               row + shard.first_id + shard.num_ids);
  }
  return own;
}

}  // namespace quire

#endif  // TESTS_WORKER_SAMPLER_SHARDED_LOGITS_H_
