// SPDX-License-Identifier: Apache-2.0
#ifndef WORKER_WEIGHTS_DUMMY_SOURCE_H_
#define WORKER_WEIGHTS_DUMMY_SOURCE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/weights/scratch.h"
#include "worker/weights/weight_source.h"

namespace quire {

// Random weights for benchmarks, made as they are read. An element depends on
// the seed, its tensor's name and its place in the whole tensor, so any number
// of ranks see parts of the same model, and float32 and bfloat16 hold the same
// values. Matrices are scaled by their width to keep activations near 1, norms
// are all ones.
class DummySource final : public WeightSource {
 public:
  explicit DummySource(uint64_t seed) : seed_(seed) {}

  absl::Status Prepare(const TensorSet& expected) override;
  absl::StatusOr<LoadedSlice> Read(const WeightSlice& slice,
                                   DType dtype) override;
  absl::Status Release(const WeightSlice& slice, LoadedSlice loaded) override;

 private:
  uint64_t seed_;
  ScratchPool scratch_;
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_DUMMY_SOURCE_H_
