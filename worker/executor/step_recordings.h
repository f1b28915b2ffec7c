// SPDX-License-Identifier: Apache-2.0
//
// Steps of decodes, and of one short prompt, that were recorded once for some
// sizes and are run again as one launch each. What is between two sizes is
// padded up to the larger.
#ifndef WORKER_EXECUTOR_STEP_RECORDINGS_H_
#define WORKER_EXECUTOR_STEP_RECORDINGS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/batch/input_builder.h"
#include "worker/model/model.h"

namespace quire {

// Enqueues a step's whole work after its input; yields its logits.
using EnqueueStep =
    std::function<absl::StatusOr<const float*>(const BatchInput& batch)>;

// The sizes of decodes that are recorded: padding costs at most one row of
// eight, or seven rows.
std::vector<int32_t> RecordedSizes(int32_t max_num_seqs);

// The tokens of prompts that are recorded: up to 128 of them, weights are most
// of what a step reads, so that padding of up to 15 costs less than launching.
std::vector<int32_t> RecordedPrompts(int32_t max_num_tokens);

// Thread-compatible. Borrows the backend.
class StepRecordings {
 public:
  // Device memory that is kept for one recording when the KV pool is sized; it
  // cannot be measured before, as recordings hold the pool's addresses. What
  // they take above it comes out of the memory that the pool leaves.
  static constexpr int64_t kKeptBytes = int64_t{8} << 20;
  // So many are made.
  static int64_t CountFor(int32_t max_num_seqs, int32_t max_num_tokens);

  // Runs padding of every size once, which is when a device measures what it
  // does fastest, and records it. `enqueue` must live as long as this.
  // ResourceExhausted, with a remedy, if the device has no memory for them: all
  // that they ever take is allocated here.
  static absl::StatusOr<std::unique_ptr<StepRecordings>> Create(
      Backend* backend, InputBuilder* builder, int32_t max_num_seqs,
      int32_t max_num_tokens, EnqueueStep enqueue);

  // What a step is padded to that scores no prompt: without tokens if it cannot
  // be replayed. REQUIRES: a slice, and sizes within those of creation.
  StepSize SizeFor(const StepPlan& plan) const;

  // Runs the step of that size on the input that the builder sent last; yields
  // its logits. REQUIRES: SizeFor() yielded it.
  absl::StatusOr<const float*> Replay(const StepSize& size);

 private:
  struct Step {
    StepSize size;
    const float* logits;
    std::unique_ptr<Recording> recording;
  };
  using Steps = std::vector<Step>;  // by tokens

  StepRecordings(Backend* backend, EnqueueStep enqueue)
      : backend_(backend), enqueue_(std::move(enqueue)) {}

  absl::Status Record(const StepSize& size, InputBuilder* builder,
                      Steps* steps);
  // The same; a lack of memory is told as Create() tells it.
  absl::Status RecordOrSayWhy(const StepSize& size, InputBuilder* builder,
                              Steps* steps);

  Backend* const backend_;
  const EnqueueStep enqueue_;
  Steps decodes_;
  Steps prompts_;
};

// Runs padding of as many tokens as steps may have, and of sizes between, so
// that what a device measures on its first step of a size is measured.
absl::Status WarmUpSteps(Backend* backend, InputBuilder* builder,
                         int32_t max_num_tokens, const EnqueueStep& enqueue);

}  // namespace quire

#endif  // WORKER_EXECUTOR_STEP_RECORDINGS_H_
