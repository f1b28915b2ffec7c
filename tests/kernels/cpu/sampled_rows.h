// SPDX-License-Identifier: Apache-2.0
//
// Rows for tests of sampling, and what a backend makes of them.
#ifndef TESTS_KERNELS_CPU_SAMPLED_ROWS_H_
#define TESTS_KERNELS_CPU_SAMPLED_ROWS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/sample.h"
#include "tests/kernels/test_backend.h"

namespace quire {

// Of one call: a summary and num_candidates candidates a row.
struct Output {
  std::vector<ShardSummary> summaries;
  std::vector<Candidate> candidates;
};

inline Output Sample(const std::vector<float>& logits,
                     const std::vector<SampleRow>& rows, int32_t num_candidates,
                     int32_t first_id = 0, int num_threads = 1) {
  const int32_t num_rows = static_cast<int32_t>(rows.size());
  Output out;
  out.summaries.resize(num_rows);
  out.candidates.resize(int64_t{num_rows} * num_candidates);
  SampleShardParams params = {};
  params.logits = logits.data();
  params.first_id = first_id;
  params.num_vocab = static_cast<int32_t>(logits.size() / num_rows);
  params.num_rows = num_rows;
  params.rows = rows.data();
  params.summaries = out.summaries.data();
  params.candidates = out.candidates.data();
  params.num_candidates = num_candidates;
  // Made once: a GPU's takes a while.
  static auto* const backends = new std::map<int, std::unique_ptr<Backend>>();
  std::unique_ptr<Backend>& backend = (*backends)[num_threads];
  if (backend == nullptr) {
    backend = MakeTestBackend(DType::kF32, num_threads);
  }
  const absl::Status status = backend->SampleShard(params);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

inline SampleRow Row(float temperature, uint64_t seed = 1,
                     int64_t position = 5) {
  SampleRow row = {};
  row.temperature = temperature;
  row.seed = seed;
  row.position = position;
  row.repetition_penalty = 1;
  return row;
}

inline std::vector<float> RandomLogits(int64_t n, uint64_t seed,
                                       float scale = 4) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

}  // namespace quire

#endif  // TESTS_KERNELS_CPU_SAMPLED_ROWS_H_
