// SPDX-License-Identifier: Apache-2.0
//
// The product over packed panels: our own kernels, for one row or thousands.
#ifndef KERNELS_CPU_PACKED_GEMM_H_
#define KERNELS_CPU_PACKED_GEMM_H_

#include <memory>

#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

// Threads share the panels; each takes x in tiles of a few rows through
// blocks of k that stay in its second-level cache, so one pass over the weight
// serves all rows. Blocks hand partial sums on as floats, which is exact.
class PackedGemm final : public CpuGemm {
 public:
  // `team` must outlive it.
  PackedGemm(DType dtype, const ThreadTeam* team);

  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(
      absl::Span<const HostMatrix> stacked) override;
  absl::Status Run(const GemmParams& params) override;

 private:
  // x as the kernel reads it: tiles of [num_steps, rows] groups one after the
  // other, or rows `stride` groups apart.
  struct PackedRows {
    const uint32_t* groups;
    int64_t stride;
  };

  // Panels [begin, end) times all rows of x.
  void RunPanels(const GemmParams& params, const PackedRows& x, int thread,
                 int64_t begin, int64_t end);

  DType dtype_;
  const ThreadTeam* team_;
  GemmKernel kernel_;
  ScratchBuffer x_;  // tiles of x as kernels read them
  ThreadScratch sums_;
};

}  // namespace quire

#endif  // KERNELS_CPU_PACKED_GEMM_H_
