// SPDX-License-Identifier: Apache-2.0
//
// The device's part of SampleShard (kernels/sample.h). No sort of the
// vocabulary: one pass over the logits finds sums and best tokens, cut into
// pieces of fixed size that the batch does not change; the k-th largest of the
// threads' own maxima bounds the k-th largest logit from below, so a second
// pass gathers hardly more than k columns, and those alone are sorted.
#ifndef KERNELS_CUDA_SAMPLE_H_
#define KERNELS_CUDA_SAMPLE_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/sample.h"

namespace quire {

// Candidates a row that the device can sort; a row with more is the host's.
inline constexpr int32_t kMaxCudaCandidates = 2048;

// SampleRow with its lists as ranges of one array each.
struct CudaSampleRow {
  uint64_t seed;
  int64_t position;
  float divisor;  // temperature, 1 for greedy
  bool is_greedy;
  float presence_penalty;
  float frequency_penalty;
  float repetition_penalty;
  int32_t first_seen, num_seen;      // of CudaSampleParams::seen, each id once
  int32_t first_masked, num_masked;  // of CudaSampleParams::masked
};

// All arrays are device memory.
struct CudaSampleParams {
  const float* logits;  // [num_rows, num_vocab]
  int32_t first_id;
  int32_t num_vocab;
  int32_t num_rows;
  int32_t num_candidates;  // at most kMaxCudaCandidates
  const CudaSampleRow* rows;
  const SeenToken* seen;
  const int32_t* masked;
  int32_t num_listed;  // seen and masked tokens of all rows together
  ShardSummary* summaries;
  Candidate* candidates;
  // [num_rows] out: 1 where more columns than the device can sort tie for a
  // place, and the candidates are not written. Only if num_candidates > 0.
  int32_t* overflowed;
  void* workspace;  // CudaSampleWorkspaceBytes() of it
};

int64_t CudaSampleWorkspaceBytes(int32_t num_rows, int32_t num_vocab);

cudaError_t LaunchSampleShardCuda(const CudaSampleParams& params,
                                  cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_SAMPLE_H_
