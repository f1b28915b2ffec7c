// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_products.h"

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/moe_gemm.h"
#include "kernels/cuda/tile_plan.h"

namespace quire {
namespace {

// Where panels leave more of the device idle, the library is faster.
constexpr double kLeastUse = 0.55;
// Products of more rows are bound by tensor cores, not by memory.
constexpr int64_t kSomeRows = 128;
// Panels multiply 64 rows at a time: up to here, pairs of their blocks would
// compute a quarter of what they do for nothing.
constexpr int64_t kTooFewForPairs = 192;

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
    products->choice_ = std::make_unique<ProductChoice>(
        options.library, products->library_->signature(), stream,
        products->Candidates());
  }
  return products;
}

std::vector<ProductChoice::Candidate> CudaProducts::Candidates() {
  std::vector<ProductChoice::Candidate> candidates = {
      {ProductKernel::kLibrary, LtGemm::CanRun,
       [this](const PlainGemmParams& trial) { return library_->Run(trial); }},
      {ProductKernel::kTiles, TileGemm::CanRun,
       [this](const PlainGemmParams& trial) {
         return tile_gemm_->Run(trial);
       }}};
  if (tile_gemm_->CanMix()) {
    candidates.push_back({ProductKernel::kMixedTiles,
                          [](const PlainGemmParams& product) {
                            return product.m > kMaxTileTokens &&
                                   TileGemm::CanRun(product);
                          },
                          [this](const PlainGemmParams& trial) {
                            return tile_gemm_->RunMixed(trial);
                          }});
  }
  if (panel_gemm_ != nullptr) {
    candidates.push_back({ProductKernel::kPanels,
                          [](const PlainGemmParams& product) {
                            return product.m > kTooFewForPairs &&
                                   PanelGemm::CanRun(product);
                          },
                          [this](const PlainGemmParams& trial) {
                            return panel_gemm_->Run(trial);
                          }});
  }
  return candidates;
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
  product.norm_after = params.norm_after;
  product.norm_before = params.norm_before;
  return product;
}

PlainGemmParams CudaProducts::ProductOf(const GatedGemmParams& params) const {
  PlainGemmParams product =
      ProductOf(CudaWeightOf(params.weight), params.x, params.y, params.m);
  product.y_stride = product.n / 2;
  product.is_gated = true;
  product.norm_before = params.norm_before;
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

bool CudaProducts::IsOfTiles(const PlainGemmParams& product) const {
  return tile_gemm_ != nullptr && product.m > kSomeRows &&
         TileGemm::CanRun(product);
}

absl::StatusOr<ProductKernel> CudaProducts::KernelOf(
    const PlainGemmParams& product) {
  if (choice_ != nullptr && !product.is_alike && IsOfTiles(product)) {
    return choice_->FastestOf(product);
  }
  return product.is_gated ? ProductKernel::kTiles : ProductKernel::kLibrary;
}

bool CudaProducts::IsOfPanels(const PlainGemmParams& product) const {
  return !IsOfFewRows(product) && IsOfSomeRows(product);
}

bool CudaProducts::CanGate(const PlainGemmParams& product) const {
  return IsOfFewRows(product) || IsOfSomeRows(product) ||
         (product.is_gated && IsOfTiles(product));
}

bool CudaProducts::CanSend(const PlainGemmParams& product) const {
  return IsSendable(product) && (IsOfFewRows(product) || IsOfSomeRows(product));
}

bool CudaProducts::CanFoldNorm(const PlainGemmParams& product,
                               const CudaWeight& next, bool is_gated) const {
  if (is_gated != next.is_in_turns() || !IsFoldable(product)) return false;
  const int32_t rows = static_cast<int32_t>(product.m);
  PlainGemmParams reader = ProductOf(next, product.y, /*y=*/nullptr, rows);
  reader.is_gated = is_gated;
  if (is_gated) reader.y_stride = reader.n / 2;
  return reader.k == product.n && IsOfPanels(product) && IsOfPanels(reader);
}

absl::Status CudaProducts::Run(const PlainGemmParams& product) {
  CHECK((product.norm_before == nullptr && product.norm_after == nullptr) ||
        IsOfPanels(product))
      << "a norm was folded that CanFoldNorm refuses";
  if (IsOfFewRows(product)) return stream_gemm_->Run(product);
  if (IsOfSomeRows(product)) return panel_gemm_->Run(product);
  QUIRE_ASSIGN_OR_RETURN(const ProductKernel kernel, KernelOf(product));
  if (kernel == ProductKernel::kPanels) return panel_gemm_->Run(product);
  if (kernel == ProductKernel::kTiles) return tile_gemm_->Run(product);
  if (kernel == ProductKernel::kMixedTiles) {
    return tile_gemm_->RunMixed(product);
  }
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
