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

// Blocks that share a panel, each with its tokens.
int32_t TokenPartsOf(int64_t m) { return CeilDiv(m, kPanelTokens); }

// What a piece takes a block, as rows of the weight that are read or multiplied
// in that time. One block is bound by memory; of two with tokens of their own,
// each is by tensor cores or, with narrow panels, by what the second-level
// cache gives, 40 bytes a clock (both as measured on an H200).
double PieceCost(int32_t rows, int32_t token_parts) {
  if (token_parts == 1) return rows + 16;
  return std::max<double>(rows, 0.4 * rows + 96) + 8;
}

// What a block's work takes, in that measure.
double Cost(const PanelPlan& plan, int32_t token_parts, int32_t turns,
            int64_t k) {
  constexpr double kMeeting = 600;  // splits wait for each other
  constexpr double kRowExchanged = 4;
  const double pieces = CeilDiv(CeilDiv(k, kPanelCols), plan.splits);
  const double exchange =
      plan.splits > 1 ? kMeeting + kRowExchanged * token_parts * plan.rows : 0;
  return turns * pieces * PieceCost(plan.rows, token_parts) + exchange;
}

PanelNormAfter NormAfter(const FoldedNorm* norm) {
  if (norm == nullptr) return {};
  return {norm->weight, norm->out, norm->squares};
}

PanelNormBefore NormBefore(const FoldedNorm* norm, int64_t k) {
  if (norm == nullptr) return {};
  return {norm->squares, CeilDiv(k, FoldedNorm::kColumns),
          1.0f / static_cast<float>(k), norm->epsilon};
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
  QUIRE_RETURN_IF_CUDA_ERROR(NumPanelPairs(&num_pairs_),
                             "products of some rows");
  QUIRE_ASSIGN_OR_RETURN(partials_, AllocateCuda(PartialBytes(num_sms_)));
  return CudaStatus(
      cudaMemsetAsync(partials_->data(), 0xff, partials_->bytes(), stream_),
      "workspace");
}

bool PanelGemm::CanRun(const PlainGemmParams& params) {
  return params.m <= kMaxPanelTokens && IsOwnProduct(params);
}

int32_t PanelGemm::ClustersOf(const PanelPlan& plan, int64_t m,
                              int64_t n) const {
  const int32_t clusters = CeilDiv(n, plan.rows) * plan.splits;
  const int32_t at_once = TokenPartsOf(m) == 1 ? num_sms_ : num_pairs_;
  if (clusters <= at_once) return clusters;
  if (plan.splits > 1) return 0;
  return CeilDiv(clusters, CeilDiv(clusters, at_once));
}

const PanelGemm::Deal& PanelGemm::DealOf(int64_t m, int64_t n, int64_t k) {
  const int32_t token_parts = TokenPartsOf(m);
  const auto [it, is_new] = deals_.try_emplace({token_parts, n, k});
  Deal& best = it->second;
  if (!is_new) return best;
  double least = 0;
  for (const int32_t rows : kPanelRows) {
    for (const int32_t splits : {1, 2, 3, 4, 6, 8}) {
      const PanelPlan plan = {rows, splits};
      const int32_t clusters = ClustersOf(plan, m, n);
      if (clusters == 0 || splits > CeilDiv(k, kPanelCols)) continue;
      const int32_t turns = CeilDiv(CeilDiv(n, rows) * splits, clusters);
      const double cost = Cost(plan, token_parts, turns, k);
      if (least > 0 && cost >= least) continue;
      least = cost;
      best.plan = plan;
    }
  }
  best.use = static_cast<double>(n) * token_parts * CeilDiv(k, kPanelCols) /
             num_sms_ / least;
  return best;
}

absl::Status PanelGemm::Run(const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  return RunAs(PlanOf(params.m, params.n, params.k), params);
}

absl::Status PanelGemm::RunAs(const PanelPlan& plan,
                              const PlainGemmParams& params) {
  if (params.m <= 0) return absl::OkStatus();
  const int32_t token_parts = TokenPartsOf(params.m);
  const int32_t clusters = ClustersOf(plan, params.m, params.n);
  if (clusters == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a product of ", params.n, "x", params.k, " in panels of ", plan.rows,
        " rows and ", plan.splits,
        " splits that wait for each other: too many to run at once"));
  }
  // A multiple of eight rows, the pattern of a swizzle.
  const int32_t x_rows =
      token_parts > 1 ? kPanelTokens : CeilDiv(params.m, 8) * 8;
  QUIRE_ASSIGN_OR_RETURN(const CUtensorMap* w,
                         maps_.Of({params.w, params.n, params.k, params.k,
                                   plan.rows / token_parts}));
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
  args.num_panels = CeilDiv(params.n, plan.rows);
  args.splits = plan.splits;
  args.token_parts = token_parts;
  args.x_rows = x_rows;
  args.y_is_float = params.y_dtype == DType::kF32;
  args.is_gated = params.is_gated;
  args.adds = params.adds;
  args.norm_after = NormAfter(params.norm_after);
  args.norm_before = NormBefore(params.norm_before, params.k);
  return CudaStatus(LaunchPanelGemm(*w, *x, args, plan.rows, clusters, stream_),
                    "a product of some rows");
}

}  // namespace quire
