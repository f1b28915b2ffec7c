// SPDX-License-Identifier: Apache-2.0
//
// The product by oneDNN, kept independent of the other rows.
#ifndef KERNELS_CPU_ONEDNN_GEMM_H_
#define KERNELS_CPU_ONEDNN_GEMM_H_

#include <memory>

#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

// x goes through in tiles of exactly kOneDnnTileRows rows, the last one filled
// up with zero rows, and the weight in chunks of columns; each (tile, chunk) is
// one single-threaded oneDNN product, made for that shape alone. So neither the
// number of rows nor of threads can change which arithmetic a row meets. The
// price: one row costs as much arithmetic as a whole tile.
class OneDnnGemm final : public CpuGemm {
 public:
  // `team` must outlive it.
  OneDnnGemm(DType dtype, const ThreadTeam* team);
  ~OneDnnGemm() override;

  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(
      absl::Span<const HostMatrix> stacked) override;
  absl::Status Run(const GemmParams& params) override;

 private:
  struct Engine;

  std::unique_ptr<Engine> engine_;
  DType dtype_;
  const ThreadTeam* team_;
  ScratchBuffer x_;  // whole tiles of x
  ThreadScratch sums_;
  ThreadScratch scratchpads_;
};

constexpr int32_t kOneDnnTileRows = 32;

}  // namespace quire

#endif  // KERNELS_CPU_ONEDNN_GEMM_H_
