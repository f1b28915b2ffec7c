// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/stream_gemm.h"

#include <algorithm>
#include <iterator>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/own_product.h"

namespace quire {
namespace {

int64_t PartialBytes(int num_sms) {
  return int64_t{num_sms} * kStreamTileRows * kMaxStreamTokens *
         int64_t{sizeof(float)};
}

int32_t CeilDiv(int64_t a, int64_t b) {
  return static_cast<int32_t>((a + b - 1) / b);
}

// Tokens that m rows are padded to.
int32_t TokensFor(int64_t m) {
  return *std::lower_bound(std::begin(kStreamTokens), std::end(kStreamTokens),
                           m);
}

}  // namespace

absl::StatusOr<std::unique_ptr<StreamGemm>> StreamGemm::Create(
    cudaStream_t stream) {
  QUIRE_ASSIGN_OR_RETURN(const int32_t num_sms, NumHopperMultiprocessors());
  if (num_sms == 0) return nullptr;
  auto gemm = absl::WrapUnique(new StreamGemm(stream));
  gemm->num_sms_ = num_sms;
  QUIRE_RETURN_IF_ERROR(gemm->Init());
  return gemm;
}

absl::Status StreamGemm::Init() {
  QUIRE_RETURN_IF_ERROR(maps_.Init());
  QUIRE_ASSIGN_OR_RETURN(partials_, AllocateCuda(PartialBytes(num_sms_)));
  return CudaStatus(
      cudaMemsetAsync(partials_->data(), 0xff, partials_->bytes(), stream_),
      "workspace");
}

bool StreamGemm::CanRun(const PlainGemmParams& params) {
  return params.m <= kMaxStreamTokens && IsOwnProduct(params);
}

StreamPlan StreamGemm::PlanOf(int64_t n, int64_t k) const {
  StreamPlan plan = {};
  plan.units_per_tile = CeilDiv(k, kStreamTileCols);
  const int32_t num_units = plan.units_per_tile * CeilDiv(n, kStreamTileRows);
  plan.num_blocks = std::min(num_sms_, num_units);
  plan.units_per_block = num_units / plan.num_blocks;
  plan.longer_blocks = num_units % plan.num_blocks;
  return plan;
}

absl::Status StreamGemm::Run(const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  const int32_t tokens = TokensFor(params.m);
  QUIRE_ASSIGN_OR_RETURN(
      const CUtensorMap* w,
      maps_.Of({params.w, params.n, params.k, params.k, kStreamTileRows}));
  QUIRE_ASSIGN_OR_RETURN(
      const CUtensorMap* x,
      maps_.Of({params.x, params.m, params.k, params.x_stride, tokens}));
  StreamGemmArgs args = {};
  if (params.peers != nullptr) args.peers = *params.peers;
  args.y = params.y;
  args.bias = params.bias;
  args.partials = partials_->as<float>();
  args.y_stride = params.y_stride;
  args.m = static_cast<int32_t>(params.m);
  args.n = static_cast<int32_t>(params.n);
  args.plan = PlanOf(params.n, params.k);
  args.y_is_float = params.y_dtype == DType::kF32;
  args.is_gated = params.is_gated;
  args.adds = params.adds;
  return CudaStatus(LaunchStreamGemm(*w, *x, args, tokens, stream_),
                    "a product of few rows");
}

}  // namespace quire
