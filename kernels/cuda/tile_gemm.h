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

  // Enqueues; products of one object run one after another.
  // REQUIRES: CanRun(params).
  absl::Status Run(const PlainGemmParams& params);

 private:
  TileGemm(cudaStream_t stream, bool is_deterministic);

  absl::Status Init();

  const cudaStream_t stream_;
  const bool may_split_;
  int32_t num_clusters_ = 0;
  std::unique_ptr<DeviceBuffer> workspace_;
  TensorMaps maps_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_GEMM_H_
