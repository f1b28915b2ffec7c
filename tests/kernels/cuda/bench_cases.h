// SPDX-License-Identifier: Apache-2.0
//
// The cases at which benches and their peers (tools/bench/peers) are measured,
// and their names, by which tools/kernel_bench.py finds them together. Needs no
// device: tests see that the peers' cases are among these.
#ifndef TESTS_KERNELS_CUDA_BENCH_CASES_H_
#define TESTS_KERNELS_CUDA_BENCH_CASES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace quire {

// Sequences of one new token each, head dim 128.
struct DecodeCase {
  int32_t num_q_heads;
  int32_t num_kv_heads;
  int32_t batch;
  int32_t context;  // tokens, the new one included
};
std::vector<DecodeCase> DecodeCases();
std::string NameOf(const DecodeCase& c);

// Sequences of many new tokens each, 32/8 heads of 128.
struct PrefillCase {
  int32_t batch;
  int32_t context;  // tokens, new included
  int32_t new_tokens;
};
std::vector<PrefillCase> PrefillCases();
std::string NameOf(const PrefillCase& c);

// Rows of products, and those of a short look.
std::vector<int64_t> ProductRows();
std::vector<int64_t> FewProductRows();
// Of the vocabulary's products, which take long, those of up to so many rows.
inline constexpr int64_t kMaxHeadRows = 512;
std::string ProductName(const std::string& shape, int64_t rows);
// All products of a layer, behind each other.
std::string ProductLayerName(int64_t rows);

// `is_peaked`: logits fall with their rank as a trained model's do.
std::string SamplingName(const std::string& how, int32_t rows, bool is_peaked);

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_BENCH_CASES_H_
