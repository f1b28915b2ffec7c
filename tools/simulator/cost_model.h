// SPDX-License-Identifier: Apache-2.0
//
// What a step costs on a machine that is not there:
//
//   GEMMs     max(weight bytes / bandwidth, FLOPs / peak)
//   attention KV bytes read / bandwidth * block factor, and FLOPs of prompts
//   ranks     2 all-reduces a layer, if there are several
//   copies    block copies on the device, swaps over PCIe
//   host      a fixed part and a part per sequence, where it is not hidden
//
// The first two add up: kernels run one after another. A swap hides behind
// compute as far as `swap_overlap` says. Numbers come from a JSON file; the
// presets' are in tools/simulator/presets, each with its source.
#ifndef TOOLS_SIMULATOR_COST_MODEL_H_
#define TOOLS_SIMULATOR_COST_MODEL_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace quire {

// All of one rank; a group's ranks do the same at the same time.
struct CostModel {
  std::string name;
  std::string source;  // where the numbers are from, for people

  // Model.
  double weight_bytes = 0;        // read by every step
  double gemm_flops = 0;          // of one token, through all layers
  double attention_flops = 0;     // of one token against one token of context
  double kv_bytes_per_token = 0;  // K and V of all layers
  int32_t num_layers = 0;
  int32_t hidden_size = 0;

  // Device.
  double bandwidth = 0;        // bytes/s that kernels reach
  double peak_flops = 0;       // FLOP/s that GEMMs reach
  double memory_bytes = 0;     // of the device; 0: not known
  double kv_bytes = 0;         // of it, for the pool
  int32_t kv_slots = 0;        // tokens of the pool; 0: kv_bytes decides
  double step_overhead_s = 0;  // of the device, between steps

  // Reading KV through a block table costs as much as `span_tokens` tokens
  // more per block, relative to blocks of `reference_block_size`; a paged
  // kernel costs `paged_factor` times the contiguous one.
  double span_tokens = 0;
  int32_t reference_block_size = 16;
  double paged_factor = 1;

  // Between device and host.
  double swap_bandwidth = 0;    // bytes/s
  double swap_block_s = 0;      // of each block, beside its bytes
  double swap_overlap = 1;      // share of compute time that hides swaps
  double host_block_bytes = 0;  // memory for host blocks

  // Ranks.
  int32_t num_ranks = 1;
  double all_reduce_s = 0;          // of one, beside its bytes
  double all_reduce_bandwidth = 0;  // bytes/s

  // The coordinator's work where it does not overlap with the device's.
  double host_step_s = 0;
  double host_sequence_s = 0;
};

// What one step does.
struct StepWork {
  int32_t num_sequences = 0;
  int64_t num_tokens = 0;          // through the GEMMs
  int64_t num_kv_tokens = 0;       // read by attention, in whole spans
  double num_attention_pairs = 0;  // query token x context token, of prompts
  int64_t num_copied_blocks = 0;
  int64_t num_swapped_blocks = 0;
};

// InvalidArgument names the field that is missing or out of range; NotFound if
// there is no such file.
absl::StatusOr<CostModel> LoadCostModel(const std::string& path);

// The same from text; `where` names it in errors.
absl::StatusOr<CostModel> ParseCostModel(absl::string_view text,
                                         absl::string_view where);

// How much longer reading KV takes with such blocks than with the reference.
double BlockFactor(const CostModel& model, int32_t block_size);

// Seconds. `contiguous`: KV lies in one piece per sequence.
double StepSeconds(const CostModel& model, const StepWork& work,
                   int32_t block_size, bool contiguous);

// Blocks that the pool holds. At least 1.
int32_t NumBlocks(const CostModel& model, int32_t block_size);
int32_t NumHostBlocks(const CostModel& model, int32_t block_size);

// What EngineCore is told about the price of preemption.
double SwapBlocksPerSecond(const CostModel& model, int32_t block_size);
double PrefillTokensPerSecond(const CostModel& model);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_COST_MODEL_H_
