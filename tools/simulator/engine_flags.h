// SPDX-License-Identifier: Apache-2.0
//
// Flags that the simulator's tools share with the coordinator, by the same
// names.
#ifndef TOOLS_SIMULATOR_ENGINE_FLAGS_H_
#define TOOLS_SIMULATOR_ENGINE_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "coordinator/engine/engine_options.h"
#include "tools/cli/flag_set.h"

namespace quire {

struct EngineFlags {
  int64_t max_num_seqs = 256;
  int64_t max_num_batched_tokens = 2560;
  int64_t max_model_len = 2048;
  int64_t block_size = 16;
  int64_t run_ahead_depth = 2;
  double watermark = EngineOptions().watermark;
  std::string preemption_mode = "auto";
};

// `engine_flags` is borrowed.
void AddEngineFlags(EngineFlags* engine_flags, FlagSet* flags);

// Sets what the flags say; the rest stays. InvalidArgument names the flag.
absl::Status ApplyEngineFlags(const EngineFlags& engine_flags,
                              EngineOptions* options);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_ENGINE_FLAGS_H_
