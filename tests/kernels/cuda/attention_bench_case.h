// SPDX-License-Identifier: Apache-2.0
//
// One layer's attention in bfloat16, timed on a CUDA device.
#ifndef TESTS_KERNELS_CUDA_ATTENTION_BENCH_CASE_H_
#define TESTS_KERNELS_CUDA_ATTENTION_BENCH_CASE_H_

#include <cstdint>
#include <vector>

namespace quire {

struct BenchSequence {
  int32_t context;     // tokens, new included
  int32_t new_tokens;  // 1: a decode
};

struct BenchCase {
  int32_t num_q_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t block_size;
  std::vector<BenchSequence> sequences;
  bool is_deterministic = false;
};

// Sequences that are alike.
std::vector<BenchSequence> AlikeSequences(int32_t count, int32_t context,
                                          int32_t new_tokens);

// Keys and values that a layer of the case reads at least.
int64_t KvBytes(const BenchCase& c);

// Bytes per second of plain reads of 4 GiB.
double ReadBandwidth(int32_t num_sms);

// Seconds a layer: the median of replays of a graph whose launches walk over
// the cache's layers, so that nothing is read from the L2 cache that an earlier
// launch left there. The plan is made before. Blocks lie in a shuffled order.
double TimeCase(const BenchCase& c, int32_t num_sms);

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_ATTENTION_BENCH_CASE_H_
