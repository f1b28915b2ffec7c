// SPDX-License-Identifier: Apache-2.0
//
// What the passes of SampleShard hand each other, and the logits of tokens that
// lists name.
#ifndef KERNELS_CUDA_SAMPLE_LISTS_CUH_
#define KERNELS_CUDA_SAMPLE_LISTS_CUH_

#include <cstdint>

#include "kernels/cuda/gumbel.cuh"
#include "kernels/cuda/sample.h"

namespace quire::sampling {

// What a piece says of its columns; sums as in ShardSummary.
struct PieceSummary {
  float raw_max, raw_sum;
  float max, sum;
  Best best;
};

struct SampleWorkspace {
  uint32_t* listed;      // [num_rows, bitmap_words] columns in a row's lists
  PieceSummary* pieces;  // [num_rows, num_pieces + 1]; the last is the lists'
  uint32_t* maxima;      // [num_rows, (num_pieces + 1) * kThreads] keys
  int32_t num_pieces;
  int32_t bitmap_words;
};

// The logit of a listed token after penalties, masks and temperature.
__device__ inline float Penalised(const CudaSampleParams& params,
                                  const CudaSampleRow& row,
                                  const SeenToken& token, float logit) {
  for (int32_t i = 0; i < row.num_masked; ++i) {
    if (params.masked[row.first_masked + i] == token.token_id) {
      return -INFINITY;
    }
  }
  logit = logit > 0 ? logit / row.repetition_penalty
                    : logit * row.repetition_penalty;
  logit = __fsub_rn(logit, __fmul_rn(row.frequency_penalty,
                                     static_cast<float>(token.output_count)));
  if (token.output_count > 0) logit -= row.presence_penalty;
  return logit / row.divisor;
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_SAMPLE_LISTS_CUH_
