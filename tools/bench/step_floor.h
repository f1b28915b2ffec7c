// SPDX-License-Identifier: Apache-2.0
//
// What steps of a dense bfloat16 model take at least on H200s. A step reads all
// weights once, or multiplies by them where that takes longer; decodes read
// their keys and values; ranks sum twice a layer. tools/step_floor.py has the
// same.
#ifndef TOOLS_BENCH_STEP_FLOOR_H_
#define TOOLS_BENCH_STEP_FLOOR_H_

#include <cstdint>

#include "common/model_config.h"

namespace quire {

// What machines reach, measured on H200s.
struct FloorRates {
  double read_bytes = 4.3e12;    // a second, of the device's memory
  double product_flop = 790e12;  // a second, bfloat16
  double sum_seconds = 3.5e-6;   // of the smallest sum over ranks
  double link_bytes = 370e9;     // a second into a device
};

// What a step computes.
struct StepWork {
  double num_tokens = 0;    // of prompts and decodes
  double num_sampled = 0;   // rows that the head multiplies
  double kv_tokens = 0;     // whose keys and values decodes read
  double prompt_pairs = 0;  // of tokens in causal attention of prompts
};

// Elements that all layers, and the head, multiply by.
struct WeightCounts {
  double layers = 0;
  double head = 0;
};
WeightCounts WeightsOf(const ModelConfig& config);

// Bytes of a token's keys and values on one of `num_ranks`.
double KvBytes(const ModelConfig& config, int32_t num_ranks);

// Seconds of a step on `num_ranks`, which share the weights evenly. Of sums,
// a rank receives one operand's bytes with two ranks, up to two with more.
// REQUIRES: num_ranks > 0, and the model is dense.
double FloorSeconds(const ModelConfig& config, const StepWork& work,
                    int32_t num_ranks, const FloorRates& rates);

}  // namespace quire

#endif  // TOOLS_BENCH_STEP_FLOOR_H_
