// SPDX-License-Identifier: Apache-2.0
//
// What tokens must not depend on.
#ifndef TESTS_COORDINATOR_ENGINE_EXACTNESS_SETTING_H_
#define TESTS_COORDINATOR_ENGINE_EXACTNESS_SETTING_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/engine_options.h"
#include "gtest/gtest.h"

namespace quire {

struct Setting {
  int32_t max_num_seqs;
  int32_t max_num_batched_tokens;
  int32_t block_size;
  int32_t num_blocks;
  int32_t forced_preemption_period;
  int32_t run_ahead_depth;
  bool must_preempt = false;
  int32_t sliding_window = 0;  // tokens
  int32_t num_host_blocks = 0;  // > 0: the preempted are swapped
};

inline std::string Name(const testing::TestParamInfo<Setting>& info) {
  const Setting& s = info.param;
  return absl::StrCat("seqs", s.max_num_seqs, "tokens",
                      s.max_num_batched_tokens, "block", s.block_size, "of",
                      s.num_blocks, "force", s.forced_preemption_period,
                      "ahead", s.run_ahead_depth, "window", s.sliding_window,
                      "host", s.num_host_blocks);
}

inline EngineOptions OptionsOf(const Setting& setting) {
  EngineOptions options;
  options.max_num_seqs = setting.max_num_seqs;
  options.max_num_batched_tokens = setting.max_num_batched_tokens;
  options.max_model_len = 512;
  options.block_size = setting.block_size;
  options.sliding_window = setting.sliding_window;
  options.forced_preemption_period = setting.forced_preemption_period;
  options.run_ahead_depth = setting.run_ahead_depth;
  if (setting.num_host_blocks > 0) {
    options.preemption_mode = PreemptionMode::kSwap;
  }
  return options;
}

}  // namespace quire

#endif  // TESTS_COORDINATOR_ENGINE_EXACTNESS_SETTING_H_
