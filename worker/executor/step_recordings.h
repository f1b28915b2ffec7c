// SPDX-License-Identifier: Apache-2.0
//
// Decode steps that were recorded once for some batch sizes and are run again
// as one launch each. A batch between two sizes is padded up to the larger.
#ifndef WORKER_EXECUTOR_STEP_RECORDINGS_H_
#define WORKER_EXECUTOR_STEP_RECORDINGS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "worker/batch/input_builder.h"
#include "worker/model/model.h"

namespace quire {

// Enqueues a step's whole work after its input; yields its logits.
using EnqueueStep =
    std::function<absl::StatusOr<const float*>(const BatchInput& batch)>;

// The batch sizes that are recorded: padding costs at most one row of eight, or
// seven rows.
std::vector<int32_t> RecordedSizes(int32_t max_num_seqs);

// Thread-compatible. Borrows the backend.
class StepRecordings {
 public:
  // Device memory that one recording may take.
  static constexpr int64_t kMaxBytes = int64_t{8} << 20;

  // Runs padding of every size once, which is when a device measures what it
  // does fastest, and records it. `enqueue` must live as long as this.
  static absl::StatusOr<std::unique_ptr<StepRecordings>> Create(
      Backend* backend, InputBuilder* builder, int32_t max_num_seqs,
      EnqueueStep enqueue);

  // What a batch is padded to.
  // REQUIRES: 1 <= num_seqs <= the max_num_seqs of creation.
  int32_t SizeFor(int32_t num_seqs) const;

  // Runs the step of that many sequences on the input that the builder sent
  // last; yields its logits. REQUIRES: a recorded size.
  absl::StatusOr<const float*> Replay(int32_t size);

 private:
  struct Step {
    int32_t size;
    const float* logits;
    std::unique_ptr<Recording> recording;
  };

  StepRecordings(Backend* backend, EnqueueStep enqueue)
      : backend_(backend), enqueue_(std::move(enqueue)) {}

  std::vector<Step>::const_iterator Find(int32_t num_seqs) const;

  Backend* const backend_;
  const EnqueueStep enqueue_;
  std::vector<Step> steps_;  // by size
};

// Runs padding of as many tokens as steps may have, and of sizes between, so
// that what a device measures on its first step of a size is measured.
absl::Status WarmUpSteps(Backend* backend, InputBuilder* builder,
                         int32_t max_num_tokens, const EnqueueStep& enqueue);

}  // namespace quire

#endif  // WORKER_EXECUTOR_STEP_RECORDINGS_H_
