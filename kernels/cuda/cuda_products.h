// SPDX-License-Identifier: Apache-2.0
//
// Products, each by the kernel that suits its sizes.
#ifndef KERNELS_CUDA_CUDA_PRODUCTS_H_
#define KERNELS_CUDA_CUDA_PRODUCTS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/panel_gemm.h"
#include "kernels/cuda/plain_gemm.h"
#include "kernels/cuda/product_choice.h"
#include "kernels/cuda/stream_gemm.h"
#include "kernels/cuda/tile_gemm.h"

namespace quire {

struct CudaProductOptions {
  LtGemmOptions library;
  bool has_stream_gemm = true;  // where the device has our own kernels
  bool has_tile_gemm = true;    // the same
};

// Thread-compatible.
class CudaProducts {
 public:
  // The weights' and inputs' dtype. NotFound without cuBLASLt.
  static absl::StatusOr<std::unique_ptr<CudaProducts>> Create(
      const CudaProductOptions& options, DType dtype, cudaStream_t stream);

  // Backend's products as those that kernels compute. A gated one is of a
  // weight in turns.
  PlainGemmParams ProductOf(const GemmParams& params) const;
  PlainGemmParams ProductOf(const GatedGemmParams& params) const;
  // The same without its gates, into GatedGemmParams::products.
  PlainGemmParams UngatedProductOf(const GatedGemmParams& params) const;

  // Whether gates can be applied to the product as it is computed.
  bool CanGate(const PlainGemmParams& product) const;
  // Whether the product's rows can go to its peers as they are stored.
  bool CanSend(const PlainGemmParams& product) const;
  // Whether the norm between products of as many rows may be folded: `product`,
  // which stores what it follows, and one by `next`, gated or not, after it.
  bool CanFoldNorm(const PlainGemmParams& product, const CudaWeight& next,
                   bool is_gated) const;
  // Enqueues. REQUIRES: not gated, or CanGate(); no peers, or CanSend(); no
  // norms, or CanFoldNorm().
  absl::Status Run(const PlainGemmParams& product);
  absl::Status RunExperts(const ExpertGemmParams& params);

 private:
  CudaProducts(DType dtype, cudaStream_t stream);

  PlainGemmParams ProductOf(const CudaWeight& weight, const void* x, void* y,
                            int32_t m) const;

  // For products of many rows. They live as long as this object.
  std::vector<ProductChoice::Candidate> Candidates();

  bool IsOfFewRows(const PlainGemmParams& product) const;
  bool IsOfSomeRows(const PlainGemmParams& product) const;
  // Whether it is panels' without a choice.
  bool IsOfPanels(const PlainGemmParams& product) const;
  // Of many rows, as our own products want them.
  bool IsOfTiles(const PlainGemmParams& product) const;
  // Of one that is neither of few nor of some rows.
  absl::StatusOr<ProductKernel> KernelOf(const PlainGemmParams& product);

  const DType dtype_;
  const cudaStream_t stream_;
  std::unique_ptr<LtGemm> library_;
  std::unique_ptr<StreamGemm> stream_gemm_;  // null: all are the library's
  std::unique_ptr<PanelGemm> panel_gemm_;    // as above
  std::unique_ptr<TileGemm> tile_gemm_;      // as above
  std::unique_ptr<ProductChoice> choice_;    // null with tile_gemm_
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_PRODUCTS_H_
