// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/round_tokens.h"

#include <algorithm>
#include <cstdint>

namespace quire {

void RoundTokens(const View& view, Decision* decision) {
  const auto is_prompt = [&view](const ScheduledSlice& slice) {
    return view.running[slice.running_idx].is_prefill();
  };
  int32_t num_decodes = 0, num_tokens = 0, num_spare = 0;
  for (const ScheduledSlice& slice : decision->slices) {
    num_tokens += slice.num_tokens;
    if (is_prompt(slice)) {
      num_spare += slice.num_tokens - 1;
    } else {
      ++num_decodes;
    }
  }
  for (const Admission& admission : decision->admissions) {
    num_tokens += admission.num_tokens;
    num_spare += std::max(0, admission.num_tokens - 1);
  }
  if (num_decodes < view.token_multiple) return;
  int32_t excess = num_tokens % view.token_multiple;
  if (excess > num_spare) return;
  const auto cut = [&excess](int32_t* part) {
    const int32_t num_cut = std::clamp(*part - 1, 0, excess);
    *part -= num_cut;
    excess -= num_cut;
  };
  auto& admissions = decision->admissions;
  for (auto it = admissions.rbegin(); it != admissions.rend(); ++it) {
    cut(&it->num_tokens);
  }
  auto& slices = decision->slices;
  for (auto it = slices.rbegin(); it != slices.rend(); ++it) {
    if (is_prompt(*it)) cut(&it->num_tokens);
  }
}

}  // namespace quire
