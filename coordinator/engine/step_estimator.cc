// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/step_estimator.h"

#include <algorithm>

namespace quire {

void StepEstimator::Record(int32_t num_sequences, int32_t num_tokens,
                           int32_t step_us) {
  if (step_us <= 0 || num_tokens <= 0) return;
  if (num_tokens == num_sequences) {
    decode_step_.Add(step_us);
  } else {
    // Decodes beside the prompt count as its tokens: that flatters, as it may.
    prefill_token_.Add(static_cast<double>(step_us) / num_tokens);
  }
}

absl::Duration StepEstimator::LeastTime(int64_t num_prompt_tokens,
                                        int64_t num_output_tokens) const {
  const double step_us = decode_step_.is_known() ? decode_step_.us() : 0;
  double prefill_us = 0;
  if (prefill_token_.is_known()) {
    prefill_us = prefill_token_.us() * static_cast<double>(num_prompt_tokens);
  }
  // The prompt's last step samples the first output, and no step is faster
  // than one that decodes.
  prefill_us = std::max(prefill_us, step_us);
  const auto num_decodes =
      static_cast<double>(std::max<int64_t>(0, num_output_tokens - 1));
  return absl::Microseconds(prefill_us + step_us * num_decodes);
}

}  // namespace quire
