// SPDX-License-Identifier: Apache-2.0
//
// Products of many rows, bound by tensor cores: a persistent kernel for Hopper
// whose tiles fit the number of rows, that begins to read weights while the
// kernel before is still running, and finishes what it computed: bias, gates,
// the residual sum.
#ifndef KERNELS_CUDA_TILE_GEMM_H_
#define KERNELS_CUDA_TILE_GEMM_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/plain_gemm.h"
#include "kernels/cuda/tensor_maps.h"
#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/tile_plan.h"
#include "kernels/cuda/tile_planner.h"

namespace quire {

// Thread-compatible. Device memory: 17 MiB.
class TileGemm {
 public:
  // Null where the device is not of compute capability 9.0. If deterministic,
  // the sums of an element are added in one order, whatever the rows are.
  static absl::StatusOr<std::unique_ptr<TileGemm>> Create(
      cudaStream_t stream, bool is_deterministic);
  ~TileGemm();
  TileGemm(const TileGemm&) = delete;
  TileGemm& operator=(const TileGemm&) = delete;

  // bfloat16 weights and inputs; sizes, strides and addresses multiples of 16
  // bytes. Gated ones: n is a multiple of 16.
  static bool CanRun(const PlainGemmParams& params);

  // Enqueues; products of one object run one after another. By clusters of two
  // blocks. REQUIRES: CanRun(params).
  absl::Status Run(const PlainGemmParams& params);

  // Whether the device runs clusters of eight blocks.
  bool CanMix() const { return mixed_->clusters().num > 0; }
  // The same product by clusters of eight, and by pairs on the multiprocessors
  // that those leave over: two launches that run at once. Without splits, the
  // same bits. REQUIRES: CanRun(params), CanMix().
  absl::Status RunMixed(const PlainGemmParams& params);
  // The same by another plan of as many rows and of that weight. REQUIRES:
  // CanRun(params); the plan's clusters are no more than run at once.
  absl::Status RunAs(const ProductPlan& plan, const PlainGemmParams& params);

 private:
  TileGemm(cudaStream_t stream, bool is_deterministic);

  absl::Status Init();
  // One of a product's launches. `args` are those that all have.
  absl::Status Launch(const PlainGemmParams& params, const TilePlan& plan,
                      int32_t tokens, TileGemmArgs args);

  const cudaStream_t stream_;
  const bool may_split_;
  std::unique_ptr<TilePlanner> pairs_, mixed_;
  int32_t max_blocks_ = 0;  // of all launches of a product
  std::unique_ptr<DeviceBuffer> workspace_;
  TensorMaps maps_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_GEMM_H_
