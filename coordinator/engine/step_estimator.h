// SPDX-License-Identifier: Apache-2.0
//
// How long a request takes at the very least, from the steps that were
// measured. For turning away at once what cannot meet its deadline even alone;
// so it errs towards letting requests in: it knows nothing before
// kMinStepSamples steps of a kind, and follows the fast end of what it sees.
#ifndef COORDINATOR_ENGINE_STEP_ESTIMATOR_H_
#define COORDINATOR_ENGINE_STEP_ESTIMATOR_H_

#include <cstdint>

#include "absl/time/time.h"

namespace quire {

inline constexpr int32_t kMinStepSamples = 16;

// A moving average of the fast end of a duration: follows a faster sample by
// half the difference, and a slower one by 1/256 of it.
class FastAverage {
 public:
  void Add(double us) {
    if (num_samples_ == 0) us_ = us;
    us_ += (us - us_) * (us < us_ ? 0.5 : 1.0 / 256);
    if (num_samples_ < kMinStepSamples) ++num_samples_;
  }
  bool is_known() const { return num_samples_ >= kMinStepSamples; }
  double us() const { return us_; }

 private:
  double us_ = 0;
  int32_t num_samples_ = 0;
};

// Thread-compatible.
class StepEstimator {
 public:
  // A step of so many sequences and tokens took `step_us` on the workers. 0 is
  // no measurement.
  void Record(int32_t num_sequences, int32_t num_tokens, int32_t step_us);

  // To compute a prompt of `num_prompt_tokens` (what is cached left out) and
  // then sample `num_output_tokens`, alone. What is not known counts nothing.
  absl::Duration LeastTime(int64_t num_prompt_tokens,
                           int64_t num_output_tokens) const;

  double decode_step_us() const { return decode_step_.us(); }
  // Of steps that compute prompts.
  double prefill_tokens_per_s() const {
    return prefill_token_.us() > 0 ? 1e6 / prefill_token_.us() : 0;
  }

 private:
  FastAverage decode_step_;    // of steps of one token a sequence
  FastAverage prefill_token_;  // of other steps, a token
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_STEP_ESTIMATOR_H_
