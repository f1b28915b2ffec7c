// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_gemm.h"

#include <algorithm>
#include <cstdint>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/own_product.h"

namespace quire {
namespace {

constexpr int64_t kMaxTileFloats = int64_t{kTileRows} * kMaxTileTokens;
constexpr int64_t kFlagsOfBlock = 2;

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
  TileClusters pairs = {kPairOfTiles, 0, 0}, mixed = {kEightTiles, 0, 0};
  QUIRE_RETURN_IF_CUDA_ERROR(NumTileClusters(pairs.shape, &pairs.num),
                             "products of many rows");
  QUIRE_RETURN_IF_CUDA_ERROR(NumTileClusters(mixed.shape, &mixed.num),
                             "products of many rows");
  const int32_t pair = pairs.shape.blocks();
  const int32_t in_eights = mixed.num * mixed.shape.blocks();
  mixed.num_pairs = std::max(0, pairs.num - in_eights / pair);
  pairs_ = std::make_unique<TilePlanner>(pairs, may_split_);
  mixed_ = std::make_unique<TilePlanner>(mixed, may_split_);
  max_blocks_ = std::max(pairs.num * pair, in_eights + mixed.num_pairs * pair);
  const int64_t bytes =
      max_blocks_ * (kMaxTileFloats * int64_t{sizeof(float)} +
                     kFlagsOfBlock * int64_t{sizeof(int32_t)});
  QUIRE_ASSIGN_OR_RETURN(workspace_, AllocateCuda(bytes));
  return CudaStatus(cudaMemsetAsync(workspace_->data(), 0, bytes, stream_),
                    "workspace");
}

bool TileGemm::CanRun(const PlainGemmParams& params) {
  return IsOwnProduct(params);
}

absl::Status TileGemm::Run(const PlainGemmParams& params) {
  return RunAs(pairs_->PlanOf(params.m, params.n, params.k), params);
}

absl::Status TileGemm::RunMixed(const PlainGemmParams& params) {
  return RunAs(mixed_->PlanOf(params.m, params.n, params.k), params);
}

absl::Status TileGemm::Launch(const PlainGemmParams& params,
                              const TilePlan& plan, int32_t tokens,
                              TileGemmArgs args) {
  QUIRE_ASSIGN_OR_RETURN(const CUtensorMap* w,
                         maps_.Of({params.w, params.n, params.k, params.k,
                                   kTileRows / plan.shape.token_tiles}));
  QUIRE_ASSIGN_OR_RETURN(
      const CUtensorMap* x,
      maps_.Of({params.x, params.m, params.k, params.x_stride,
                tokens / plan.shape.row_tiles}));
  const CUtensorMap* y = x;  // of floats there is none
  if (params.y_dtype == DType::kBf16) {
    const int64_t columns = params.is_gated ? params.n / 2 : params.n;
    QUIRE_ASSIGN_OR_RETURN(
        y, maps_.Of({params.y, params.m, columns, params.y_stride,
                     params.is_gated ? tokens : tokens / 2,
                     params.is_gated ? kTileRows / 4 : kTileRows / 2}));
  }
  args.plan = plan;
  return CudaStatus(LaunchTileGemm(*w, *x, *y, args, tokens, stream_),
                    "a product of many rows");
}

absl::Status TileGemm::RunAs(const ProductPlan& plan,
                             const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  TileGemmArgs args = {};
  args.y = params.y;
  args.bias = params.bias;
  args.partials = workspace_->as<float>();
  args.flags = reinterpret_cast<int32_t*>(workspace_->as<float>() +
                                          max_blocks_ * kMaxTileFloats);
  args.y_stride = params.y_stride;
  args.m = static_cast<int32_t>(params.m);
  args.n = static_cast<int32_t>(params.n);
  args.y_is_float = params.y_dtype == DType::kF32;
  args.is_gated = params.is_gated;
  args.adds = params.adds;
  args.part = TilePart::kWhole;
  if (plan.second.num_clusters == 0) {
    return Launch(params, plan.first, plan.tokens, args);
  }
  args.part = TilePart::kFirst;
  QUIRE_RETURN_IF_ERROR(Launch(params, plan.first, plan.tokens, args));
  // They run at once: each has sums of parts of its own.
  const int64_t before = plan.first.num_clusters * plan.first.shape.blocks();
  args.partials += before * kMaxTileFloats;
  args.flags += before * kFlagsOfBlock;
  args.part = TilePart::kSecond;
  return Launch(params, plan.second, plan.tokens, args);
}

}  // namespace quire
