// SPDX-License-Identifier: Apache-2.0
#ifndef WORKER_WEIGHTS_CHECKPOINT_SOURCE_H_
#define WORKER_WEIGHTS_CHECKPOINT_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/scratch.h"
#include "worker/weights/weight_source.h"

namespace quire {

// Slices of mapped safetensors. float32 and bfloat16 are read where they lie;
// float16 is converted, and so is what lies unaligned. Release() gives the
// pages back to the system, so that a model is not held twice.
class CheckpointSource final : public WeightSource {
 public:
  explicit CheckpointSource(std::unique_ptr<Checkpoint> checkpoint);

  absl::Status Prepare(const TensorSet& expected) override;
  absl::StatusOr<LoadedSlice> Read(const WeightSlice& slice,
                                   DType dtype) override;
  absl::Status Release(const WeightSlice& slice, LoadedSlice loaded) override;

 private:
  std::string StoredName(const std::string& name) const;
  // What to do about a misfit.
  std::string Remedy(const TensorSet& expected) const;
  const Checkpoint::Entry* FindEntry(const TensorSpec& tensor) const;
  std::vector<std::string> Unexpected(const TensorSet& expected) const;

  std::unique_ptr<Checkpoint> checkpoint_;
  ScratchPool scratch_;
  std::string expected_prefix_;  // of the model's names
  std::string stored_prefix_;    // in its place in the checkpoint
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_CHECKPOINT_SOURCE_H_
