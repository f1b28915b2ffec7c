// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_products.h"

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/moe_gemm.h"

namespace quire {
namespace {

// Where panels leave more of the device idle, the library is faster.
constexpr double kLeastUse = 0.55;
// Products of more rows are bound by tensor cores, not by memory.
constexpr int64_t kSomeRows = 128;

const CudaWeight& CudaWeightOf(const PackedWeight* weight) {
  return static_cast<const CudaWeight&>(*weight);
}

}  // namespace

CudaProducts::CudaProducts(DType dtype, cudaStream_t stream)
    : dtype_(dtype), stream_(stream) {}

absl::StatusOr<std::unique_ptr<CudaProducts>> CudaProducts::Create(
    const CudaProductOptions& options, DType dtype, cudaStream_t stream) {
  auto products = absl::WrapUnique(new CudaProducts(dtype, stream));
  QUIRE_ASSIGN_OR_RETURN(products->library_,
                         LtGemm::Create(options.library, stream));
  if (options.has_stream_gemm) {
    QUIRE_ASSIGN_OR_RETURN(products->stream_gemm_, StreamGemm::Create(stream));
    QUIRE_ASSIGN_OR_RETURN(products->panel_gemm_, PanelGemm::Create(stream));
  }
  if (options.has_tile_gemm) {
    QUIRE_ASSIGN_OR_RETURN(
        products->tile_gemm_,
        TileGemm::Create(stream, options.library.is_deterministic));
  }
  if (products->tile_gemm_ != nullptr && !options.library.is_deterministic) {
    LtGemm* const library = products->library_.get();
    TileGemm* const tiles = products->tile_gemm_.get();
    products->tile_choice_ = std::make_unique<TileChoice>(
        options.library, library->signature(), stream,
        [library](const PlainGemmParams& trial) { return library->Run(trial); },
        [tiles](const PlainGemmParams& trial) { return tiles->Run(trial); });
  }
  return products;
}

PlainGemmParams CudaProducts::ProductOf(const CudaWeight& weight, const void* x,
                                        void* y, int32_t m) const {
  return {.x = x,
          .x_stride = weight.k(),
          .w = weight.data(),
          .bias = nullptr,
          .y = y,
          .y_stride = weight.n(),
          .m = m,
          .n = weight.n(),
          .k = weight.k(),
          .dtype = dtype_,
          .y_dtype = dtype_};
}

PlainGemmParams CudaProducts::ProductOf(const GemmParams& params) const {
  PlainGemmParams product =
      ProductOf(CudaWeightOf(params.weight), params.x, params.y, params.m);
  product.x_stride = params.x_stride;
  product.bias = params.bias;
  product.y_stride = params.y_stride;
  product.y_dtype = params.y_dtype;
  product.adds = params.adds;
  product.peers = params.peers;
  product.is_alike = params.is_alike;
  return product;
}

PlainGemmParams CudaProducts::ProductOf(const GatedGemmParams& params) const {
  PlainGemmParams product =
      ProductOf(CudaWeightOf(params.weight), params.x, params.y, params.m);
  product.y_stride = product.n / 2;
  product.is_gated = true;
  return product;
}

PlainGemmParams CudaProducts::UngatedProductOf(
    const GatedGemmParams& params) const {
  return ProductOf(CudaWeightOf(params.weight), params.x, params.products,
                   params.m);
}

bool CudaProducts::IsOfFewRows(const PlainGemmParams& product) const {
  return stream_gemm_ != nullptr && StreamGemm::CanRun(product);
}

bool CudaProducts::IsOfSomeRows(const PlainGemmParams& product) const {
  return panel_gemm_ != nullptr && product.m <= kSomeRows &&
         PanelGemm::CanRun(product) &&
         panel_gemm_->UseOf(product.m, product.n, product.k) >= kLeastUse;
}

bool CudaProducts::IsOfGatedTiles(const PlainGemmParams& product) const {
  return tile_gemm_ != nullptr && product.is_gated && product.m > kSomeRows &&
         TileGemm::CanRun(product);
}

absl::StatusOr<bool> CudaProducts::IsOfTiles(const PlainGemmParams& product) {
  if (tile_choice_ == nullptr || product.is_alike || product.m <= kSomeRows ||
      !TileGemm::CanRun(product)) {
    return false;
  }
  return tile_choice_->AreTilesFaster(product);
}

bool CudaProducts::CanGate(const PlainGemmParams& product) const {
  return IsOfFewRows(product) || IsOfSomeRows(product) ||
         IsOfGatedTiles(product);
}

bool CudaProducts::CanSend(const PlainGemmParams& product) const {
  return IsSendable(product) && (IsOfFewRows(product) || IsOfSomeRows(product));
}

absl::Status CudaProducts::Run(const PlainGemmParams& product) {
  if (IsOfFewRows(product)) return stream_gemm_->Run(product);
  if (IsOfSomeRows(product)) return panel_gemm_->Run(product);
  if (product.is_gated) return tile_gemm_->Run(product);
  QUIRE_ASSIGN_OR_RETURN(const bool is_of_tiles, IsOfTiles(product));
  if (is_of_tiles) return tile_gemm_->Run(product);
  if (LtGemm::CanRun(product)) {
    const absl::Status status = library_->Run(product);
    if (!absl::IsUnimplemented(status)) return status;
  }
  return CudaStatus(LaunchPlainGemmCuda(product, stream_), "product");
}

absl::Status CudaProducts::RunExperts(const ExpertGemmParams& params) {
  const CudaWeight& weight = CudaWeightOf(params.weight);
  const MoeGemmParams product = {.x = params.x,
                                 .row_tokens = params.row_tokens,
                                 .w = weight.data(),
                                 .expert_start = params.expert_start,
                                 .y = params.y,
                                 .n = weight.n(),
                                 .k = weight.k(),
                                 .num_experts = params.num_experts,
                                 .num_rows = params.num_rows,
                                 .dtype = dtype_,
                                 .y_dtype = params.y_dtype};
  return CudaStatus(LaunchMoeGemmCuda(product, stream_), "experts");
}

}  // namespace quire
