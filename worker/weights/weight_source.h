// SPDX-License-Identifier: Apache-2.0
//
// Where a model's weights come from: a checkpoint, or nothing at all (random
// weights for benchmarks). A rank reads only its slices.
#ifndef WORKER_WEIGHTS_WEIGHT_SOURCE_H_
#define WORKER_WEIGHTS_WEIGHT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/dtype.h"
#include "kernels/gemm.h"

namespace quire {

// A tensor that a model needs. Vectors have one column.
struct TensorSpec {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 1;
  bool is_vector = false;  // stored with one dimension
};

// Everything that a model family expects of its weights.
struct TensorSet {
  std::vector<TensorSpec> tensors = {};
  // Names above may begin with prefixes[0]; published checkpoints have any of
  // `prefixes` in its place, the same for all tensors. `probe` is a tensor that
  // every checkpoint has, by which the prefix is found.
  std::vector<std::string> prefixes = {""};
  std::string probe = {};
  // Endings of names that may be there too, and are not used.
  std::vector<std::string> unused_suffixes = {};
};

// A rectangle of a tensor.
struct WeightSlice {
  TensorSpec tensor;
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t first_col = 0;
  int64_t num_cols = 0;
  // The loader hands it on as [num_cols, num_rows]; sources read it as it is.
  bool transposed = false;
};

// A slice in host memory. `owned` keeps what had to be made for it.
struct LoadedSlice {
  HostMatrix matrix;
  std::shared_ptr<void> owned;  // null when `matrix` lies in the source
};

// Thread-compatible.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Holds what is there against what is expected; first, and once.
  // InvalidArgument counts the tensors that are missing, unexpected or of the
  // wrong shape or type, and names the first of each.
  virtual absl::Status Prepare(const TensorSet& expected) = 0;

  // The slice as `dtype`, or as another type that it is stored in. Valid while
  // the source lives, until Release(). DataLoss names a tensor that was lost
  // while the file was open.
  virtual absl::StatusOr<LoadedSlice> Read(const WeightSlice& slice,
                                           DType dtype) = 0;

  // After the bytes that Read() gave were used: says whether they were good,
  // and lets their memory go.
  virtual absl::Status Release(const WeightSlice& slice,
                               LoadedSlice loaded) = 0;
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_WEIGHT_SOURCE_H_
