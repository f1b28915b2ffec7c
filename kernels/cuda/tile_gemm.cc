// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_gemm.h"

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/own_product.h"
#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/tile_plan.h"

namespace quire {
namespace {

int64_t PartialBytes(int32_t num_clusters) {
  return int64_t{num_clusters} * kTilesOfCluster * kTileRows * kMaxTileTokens *
         int64_t{sizeof(float)};
}

}  // namespace

TileGemm::TileGemm(cudaStream_t stream, bool is_deterministic)
    : stream_(stream), may_split_(!is_deterministic) {}
TileGemm::~TileGemm() = default;

absl::StatusOr<std::unique_ptr<TileGemm>> TileGemm::Create(
    cudaStream_t stream, bool is_deterministic) {
  QUIRE_ASSIGN_OR_RETURN(const int32_t num_sms, NumHopperMultiprocessors());
  if (num_sms == 0) return nullptr;
  auto gemm = absl::WrapUnique(new TileGemm(stream, is_deterministic));
  QUIRE_RETURN_IF_ERROR(gemm->Init());
  return gemm;
}

absl::Status TileGemm::Init() {
  QUIRE_RETURN_IF_ERROR(maps_.Init());
  QUIRE_RETURN_IF_CUDA_ERROR(NumTileClusters(&num_clusters_),
                             "products of many rows");
  const int64_t bytes =
      PartialBytes(num_clusters_) +
      int64_t{num_clusters_} * kTilesOfCluster * 2 * int64_t{sizeof(int32_t)};
  QUIRE_ASSIGN_OR_RETURN(workspace_, AllocateCuda(bytes));
  return CudaStatus(cudaMemsetAsync(workspace_->data(), 0, bytes, stream_),
                    "workspace");
}

bool TileGemm::CanRun(const PlainGemmParams& params) {
  return IsOwnProduct(params);
}

absl::Status TileGemm::Run(const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  const TileProblem problem = {.m = params.m,
                               .n = params.n,
                               .k = params.k,
                               .max_clusters = num_clusters_,
                               .may_split = may_split_};
  const int32_t tokens = ChooseTileTokens(problem);
  const TilePlan plan = PlanTiles(problem, tokens);
  const int64_t columns = params.is_gated ? params.n / 2 : params.n;
  QUIRE_ASSIGN_OR_RETURN(
      const CUtensorMap* w,
      maps_.Of({params.w, params.n, params.k, params.k, kTileRows}));
  QUIRE_ASSIGN_OR_RETURN(const CUtensorMap* x,
                         maps_.Of({params.x, params.m, params.k,
                                   params.x_stride, tokens / kTilesOfCluster}));
  const CUtensorMap* y = x;  // of floats there is none
  if (params.y_dtype == DType::kBf16) {
    QUIRE_ASSIGN_OR_RETURN(
        y, maps_.Of({params.y, params.m, columns, params.y_stride,
                     params.is_gated ? tokens : tokens / 2,
                     params.is_gated ? kTileRows / 4 : kTileRows / 2}));
  }
  TileGemmArgs args = {};
  args.y = params.y;
  args.bias = params.bias;
  args.partials = workspace_->as<float>();
  args.flags = reinterpret_cast<int32_t*>(workspace_->as<char>() +
                                          PartialBytes(num_clusters_));
  args.y_stride = params.y_stride;
  args.m = static_cast<int32_t>(params.m);
  args.n = static_cast<int32_t>(params.n);
  args.plan = plan;
  args.y_is_float = params.y_dtype == DType::kF32;
  args.is_gated = params.is_gated;
  args.adds = params.adds;
  return CudaStatus(LaunchTileGemm(*w, *x, *y, args, tokens, stream_),
                    "a product of many rows");
}

}  // namespace quire
