// SPDX-License-Identifier: Apache-2.0
//
// Golden models (tests/golden/make_models.py) and a small engine that runs them
// over the real loader, backend, cache layout and collective.
#ifndef TESTS_WORKER_MODEL_GOLDEN_H_
#define TESTS_WORKER_MODEL_GOLDEN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace quire {

struct GoldenPrompt {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;  // what greedy decoding adds, [num_steps]
  // Logits of tokens 0, every, 2 every ...: [., vocab_size]
  std::vector<std::vector<float>> logits;
};

struct Golden {
  int32_t vocab_size = 0;
  int32_t logits_every = 0;
  // Largest difference of torch's own bfloat16 logits; 0 for other models.
  float bf16_error = 0;
  std::vector<GoldenPrompt> prompts;
};

// Reads golden.json and logits.f32 of tests/golden/<name>.
absl::StatusOr<Golden> ReadGolden(const std::string& name);

// The model's folder, as tests see it.
std::string GoldenFolder(const std::string& name);

struct GoldenRun {
  DType dtype = DType::kF32;
  bool on_cuda = false;  // on the first GPU; one rank, deterministic
  int32_t world_size = 1;
  int32_t chunk_size = 512;  // tokens of a prompt in one step
  int32_t block_size = 16;
};

// Logits [prompt][step][vocab_size] of all prompts, run as one batch, when each
// step is fed the golden token of the step before. Blocks are given out in a
// scrambled order.
absl::StatusOr<std::vector<std::vector<std::vector<float>>>> RunGolden(
    const std::string& name, const Golden& golden, const GoldenRun& run);

int32_t ArgMax(const std::vector<float>& row);
// Largest difference of two rows.
float MaxDifference(const std::vector<float>& a, const std::vector<float>& b);
// The largest logit minus the second largest.
float Gap(const std::vector<float>& row);

}  // namespace quire

#endif  // TESTS_WORKER_MODEL_GOLDEN_H_
