// SPDX-License-Identifier: Apache-2.0
//
// Products of some rows, 65 to 256: a kernel for Hopper that deals a weight to
// blocks in panels of its rows, as wide as makes them even: wide ones need
// little of x, and few or no sums of parts.
#ifndef KERNELS_CUDA_PANEL_GEMM_H_
#define KERNELS_CUDA_PANEL_GEMM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/plain_gemm.h"
#include "kernels/cuda/tensor_maps.h"

namespace quire {

// Thread-compatible. Device memory: 16.5 MiB. Sums are split at places that
// depend on n, k, the device and on whether there are more than kPanelTokens
// rows alone, and added in their order.
class PanelGemm {
 public:
  // Null where the device is not of compute capability 9.0.
  static absl::StatusOr<std::unique_ptr<PanelGemm>> Create(cudaStream_t stream);
  PanelGemm(const PanelGemm&) = delete;
  PanelGemm& operator=(const PanelGemm&) = delete;

  // bfloat16 weights and inputs, at most kMaxPanelTokens rows; sizes, strides
  // and addresses multiples of 16 bytes. Gated ones: n is a multiple of 16.
  static bool CanRun(const PlainGemmParams& params);

  // Enqueues; products of one object run one after another.
  // REQUIRES: CanRun(params); no peers, or IsSendable(params); no norms, or at
  // most kPanelTokens rows and no peers, with one behind it IsFoldable(params).
  absl::Status Run(const PlainGemmParams& params);
  // The same by another plan. InvalidArgument if its splits are too many to run
  // at once.
  absl::Status RunAs(const PanelPlan& plan, const PlainGemmParams& params);

  PanelPlan PlanOf(int64_t m, int64_t n, int64_t k) {
    return DealOf(m, n, k).plan;
  }
  // The part of the time that the plan takes in which all multiprocessors read
  // the weight.
  double UseOf(int64_t m, int64_t n, int64_t k) { return DealOf(m, n, k).use; }

 private:
  struct Deal {
    PanelPlan plan;
    double use;
  };

  explicit PanelGemm(cudaStream_t stream) : stream_(stream) {}

  absl::Status Init();
  const Deal& DealOf(int64_t m, int64_t n, int64_t k);
  // Of a launch; 0 if more would have to run at once than can.
  int32_t ClustersOf(const PanelPlan& plan, int64_t m, int64_t n) const;

  const cudaStream_t stream_;
  int32_t num_sms_ = 0;
  int32_t num_pairs_ = 0;  // of blocks that run at once
  TensorMaps maps_;
  std::unique_ptr<DeviceBuffer> partials_;
  std::map<std::tuple<int32_t, int64_t, int64_t>, Deal> deals_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_PANEL_GEMM_H_
