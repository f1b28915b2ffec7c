// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/panel_gemm.h"

#include <algorithm>
#include <iterator>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/own_product.h"

namespace quire {
namespace {

constexpr int32_t kMaxRows = kPanelRows[std::size(kPanelRows) - 1];

int64_t PartialBytes(int num_sms) {
  return int64_t{num_sms} * kMaxRows * kPanelTokens * int64_t{sizeof(float)};
}

int32_t CeilDiv(int64_t a, int64_t b) {
  return static_cast<int32_t>((a + b - 1) / b);
}

// What a block's work takes, as rows of the weight times pieces along k that
// are read in that time.
double Cost(const PanelPlan& plan, int64_t n, int64_t k, int32_t num_sms) {
  constexpr double kPiece = 16;     // beside its rows
  constexpr double kMeeting = 600;  // splits wait for each other
  constexpr double kRowExchanged = 4;
  const int32_t turns = CeilDiv(CeilDiv(n, plan.rows) * plan.splits, num_sms);
  const double pieces = CeilDiv(CeilDiv(k, kPanelCols), plan.splits);
  const double exchange =
      plan.splits > 1 ? kMeeting + kRowExchanged * plan.rows : 0;
  return turns * pieces * (plan.rows + kPiece) + exchange;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PanelGemm>> PanelGemm::Create(
    cudaStream_t stream) {
  QUIRE_ASSIGN_OR_RETURN(const int32_t num_sms, NumHopperMultiprocessors());
  if (num_sms == 0) return nullptr;
  auto gemm = absl::WrapUnique(new PanelGemm(stream));
  gemm->num_sms_ = num_sms;
  QUIRE_RETURN_IF_ERROR(gemm->Init());
  return gemm;
}

absl::Status PanelGemm::Init() {
  QUIRE_RETURN_IF_ERROR(maps_.Init());
  QUIRE_ASSIGN_OR_RETURN(partials_, AllocateCuda(PartialBytes(num_sms_)));
  return CudaStatus(
      cudaMemsetAsync(partials_->data(), 0xff, partials_->bytes(), stream_),
      "workspace");
}

bool PanelGemm::CanRun(const PlainGemmParams& params) {
  return params.m <= kPanelTokens && IsOwnProduct(params);
}

bool PanelGemm::CanMeet(const PanelPlan& plan, int64_t n) const {
  return plan.splits == 1 ||
         int64_t{CeilDiv(n, plan.rows)} * plan.splits <= num_sms_;
}

const PanelGemm::Deal& PanelGemm::DealOf(int64_t n, int64_t k) {
  const auto [it, is_new] = deals_.try_emplace({n, k});
  Deal& best = it->second;
  if (!is_new) return best;
  double least = 0;
  for (const int32_t rows : kPanelRows) {
    for (const int32_t splits : {1, 2, 3, 4, 6, 8}) {
      const PanelPlan plan = {rows, splits};
      if (splits > CeilDiv(k, kPanelCols) || !CanMeet(plan, n)) continue;
      const double cost = Cost(plan, n, k, num_sms_);
      if (least > 0 && cost >= least) continue;
      least = cost;
      best.plan = plan;
    }
  }
  best.use = static_cast<double>(n) * CeilDiv(k, kPanelCols) / num_sms_ / least;
  return best;
}

absl::Status PanelGemm::Run(const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  return RunAs(PlanOf(params.n, params.k), params);
}

absl::Status PanelGemm::RunAs(const PanelPlan& plan,
                              const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  const int32_t num_panels = CeilDiv(params.n, plan.rows);
  const int32_t blocks = num_panels * plan.splits;
  if (!CanMeet(plan, params.n)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a product of ", params.n, "x", params.k, " in ", blocks,
        " blocks that wait for each other; ", num_sms_, " run at once"));
  }
  // A multiple of eight rows, the pattern of a swizzle.
  const int32_t x_rows = CeilDiv(params.m, 8) * 8;
  QUIRE_ASSIGN_OR_RETURN(
      const CUtensorMap* w,
      maps_.Of({params.w, params.n, params.k, params.k, plan.rows}));
  QUIRE_ASSIGN_OR_RETURN(
      const CUtensorMap* x,
      maps_.Of({params.x, params.m, params.k, params.x_stride, x_rows}));
  PanelGemmArgs args = {};
  if (params.peers != nullptr) args.peers = *params.peers;
  args.y = params.y;
  args.bias = params.bias;
  args.partials = partials_->as<float>();
  args.y_stride = params.y_stride;
  args.m = static_cast<int32_t>(params.m);
  args.n = static_cast<int32_t>(params.n);
  args.num_units = CeilDiv(params.k, kPanelCols);
  args.num_panels = num_panels;
  args.splits = plan.splits;
  args.x_rows = x_rows;
  args.y_is_float = params.y_dtype == DType::kF32;
  args.is_gated = params.is_gated;
  args.adds = params.adds;
  return CudaStatus(LaunchPanelGemm(*w, *x, args, plan.rows,
                                    std::min(blocks, num_sms_), stream_),
                    "a product of some rows");
}

}  // namespace quire
