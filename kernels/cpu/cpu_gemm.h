// SPDX-License-Identifier: Apache-2.0
//
// Matrix products on the CPU: what an implementation of them offers.
#ifndef KERNELS_CPU_CPU_GEMM_H_
#define KERNELS_CPU_CPU_GEMM_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/gemm.h"

namespace quire {

// Packs weights and multiplies by them. Weights belong to the implementation
// that packed them, and may outlive it. Thread-compatible.
class CpuGemm {
 public:
  virtual ~CpuGemm() = default;

  // See Backend. Fails with ResourceExhausted.
  virtual absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(
      absl::Span<const HostMatrix> stacked) = 0;
  virtual absl::Status Run(const GemmParams& params) = 0;
};

}  // namespace quire

#endif  // KERNELS_CPU_CPU_GEMM_H_
