// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/engine_flags.h"

#include "common/status_macros.h"
#include "coordinator/engine/preemption_mode.h"
#include "tools/cli/integer_flag.h"

namespace quire {

void AddEngineFlags(EngineFlags* engine_flags, FlagSet* flags) {
  flags->Add("max_num_seqs", &engine_flags->max_num_seqs,
             "Sequences of a step.");
  flags->Add("max_num_batched_tokens", &engine_flags->max_num_batched_tokens,
             "Tokens of a step.");
  flags->Add("max_model_len", &engine_flags->max_model_len,
             "Tokens of prompt and output.");
  flags->Add("block_size", &engine_flags->block_size,
             "Tokens of a KV block: a power of two to 256.");
  flags->Add("run_ahead_depth", &engine_flags->run_ahead_depth,
             "Steps sent before the first of them is known.");
  flags->Add("watermark", &engine_flags->watermark,
             "Part of the pool that an admission leaves free.");
  flags->Add("preemption_mode", &engine_flags->preemption_mode,
             "How blocks are taken back: swap, recompute or auto.");
}

absl::Status ApplyEngineFlags(const EngineFlags& engine_flags,
                              EngineOptions* options) {
  // The engine says which of them it takes.
  QUIRE_ASSIGN_OR_RETURN(
      options->max_num_seqs,
      InRange<int32_t>("max_num_seqs", engine_flags.max_num_seqs, 1));
  QUIRE_ASSIGN_OR_RETURN(
      options->max_num_batched_tokens,
      InRange<int32_t>("max_num_batched_tokens",
                       engine_flags.max_num_batched_tokens, 1));
  QUIRE_ASSIGN_OR_RETURN(
      options->max_model_len,
      InRange<int32_t>("max_model_len", engine_flags.max_model_len, 1));
  QUIRE_ASSIGN_OR_RETURN(
      options->block_size,
      InRange<int32_t>("block_size", engine_flags.block_size, 1));
  QUIRE_ASSIGN_OR_RETURN(
      options->run_ahead_depth,
      InRange<int32_t>("run_ahead_depth", engine_flags.run_ahead_depth, 1));
  options->watermark = engine_flags.watermark;
  QUIRE_ASSIGN_OR_RETURN(options->preemption_mode,
                         ParsePreemptionMode(engine_flags.preemption_mode));
  return absl::OkStatus();
}

}  // namespace quire
