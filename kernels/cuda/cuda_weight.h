// SPDX-License-Identifier: Apache-2.0
//
// Weights in device memory, and how they get there.
#ifndef KERNELS_CUDA_CUDA_WEIGHT_H_
#define KERNELS_CUDA_CUDA_WEIGHT_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/weight_upload.h"

namespace quire {

// Dense rows, as they multiply best; gates in turns with what they let through
// (kGatedRows), if their numbers allow.
class CudaWeight final : public PackedWeight {
 public:
  CudaWeight(int64_t n, int64_t k, bool is_in_turns,
             std::unique_ptr<DeviceBuffer> rows)
      : PackedWeight(n, k, rows->bytes()),
        is_in_turns_(is_in_turns),
        rows_(std::move(rows)) {}
  const void* data() const { return rows_->data(); }
  bool is_in_turns() const { return is_in_turns_; }

 private:
  const bool is_in_turns_;
  const std::unique_ptr<DeviceBuffer> rows_;
};

// Makes them of host matrices. Thread-compatible.
class CudaWeightPacker {
 public:
  // To T of `dtype`.
  CudaWeightPacker(DType dtype, cudaStream_t stream);

  // As Backend's methods of these names.
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked);
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked);
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackGated(
      const HostMatrix& gate, const HostMatrix& up);
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> stacked, int32_t num_experts);

 private:
  const DType dtype_;
  const cudaStream_t stream_;
  WeightUpload upload_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_WEIGHT_H_
