// SPDX-License-Identifier: Apache-2.0
//
// Puts a rank's slices of named tensors onto its device.
#ifndef WORKER_WEIGHTS_WEIGHT_LOADER_H_
#define WORKER_WEIGHTS_WEIGHT_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kernels/backend.h"
#include "worker/weights/scratch.h"
#include "worker/weights/weight_source.h"

namespace quire {

// Called after each tensor, with the elements of the tensors that were read so
// far, and of all tensors of the model.
using LoadProgress =
    std::function<void(int64_t elements_done, int64_t elements_total)>;

// Lives while a model is built. Borrows the source and the backend.
// Thread-compatible.
class WeightLoader {
 public:
  // Checks that the source has what is expected; see WeightSource::Prepare().
  static absl::StatusOr<std::unique_ptr<WeightLoader>> Create(
      const TensorSet& expected, WeightSource& source, Backend& backend,
      LoadProgress progress);

  // Parts of an expected tensor. REQUIRES: the name is expected, and the part
  // inside of it.
  WeightSlice Whole(absl::string_view name) const;
  WeightSlice Rows(absl::string_view name, int64_t first, int64_t num) const;
  WeightSlice Cols(absl::string_view name, int64_t first, int64_t num) const;

  // The same slice with rows and columns exchanged, for checkpoints that store
  // a matrix as [inputs, outputs].
  static WeightSlice Transposed(WeightSlice slice);

  // Slices stacked by rows, as a weight to multiply with or as they are. Rows
  // of zeros fill a weight up to a multiple of `row_multiple`.
  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(
      absl::Span<const WeightSlice> stacked, int64_t row_multiple = 1);
  // Backend::PackGated().
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackGated(
      const WeightSlice& gate, const WeightSlice& up);
  // Backend::PackExperts().
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const WeightSlice> stacked, int32_t num_experts);
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const WeightSlice> stacked);

  // Of everything that was packed and uploaded.
  int64_t device_bytes() const { return device_bytes_; }

 private:
  WeightLoader(const TensorSet& expected, WeightSource& source,
               Backend& backend, LoadProgress progress);

  // Reads the slices, hands their matrices to `consume`, releases them.
  template <typename Consume>
  auto Load(absl::Span<const WeightSlice> stacked, Consume consume)
      -> decltype(consume(absl::Span<const HostMatrix>()));

  // Copies a matrix with rows and columns exchanged.
  LoadedSlice Transpose(const HostMatrix& matrix);

  void Count(absl::Span<const WeightSlice> stacked);

  WeightSource& source_;
  Backend& backend_;
  LoadProgress progress_;
  ScratchPool scratch_;
  absl::flat_hash_map<std::string, TensorSpec> specs_;
  absl::flat_hash_set<std::string> counted_;  // names
  int64_t elements_done_ = 0;
  int64_t elements_total_ = 0;
  int64_t device_bytes_ = 0;
};

}  // namespace quire

#endif  // WORKER_WEIGHTS_WEIGHT_LOADER_H_
