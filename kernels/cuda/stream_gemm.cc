// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/stream_gemm.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/gated_rows.h"

namespace quire {
namespace {

bool IsAligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

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

struct StreamGemm::TensorMap {
  alignas(64) CUtensorMap map;
};

StreamGemm::StreamGemm(cudaStream_t stream) : stream_(stream) {}
StreamGemm::~StreamGemm() = default;

absl::StatusOr<std::unique_ptr<StreamGemm>> StreamGemm::Create(
    cudaStream_t stream) {
  int device = 0, major = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "current device");
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
      "device properties");
  if (major != 9) return nullptr;
  auto gemm = absl::WrapUnique(new StreamGemm(stream));
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&gemm->num_sms_, cudaDevAttrMultiProcessorCount,
                             device),
      "device properties");
  QUIRE_RETURN_IF_ERROR(gemm->Init());
  return gemm;
}

absl::Status StreamGemm::Init() {
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode_,
                                       12000, cudaEnableDefault, &found),
      "the driver");
  if (found != cudaDriverEntryPointSuccess) {
    return absl::UnavailableError(
        "the driver has no cuTensorMapEncodeTiled; 525 or later is needed");
  }
  const int64_t bytes =
      PartialBytes(num_sms_) + num_sms_ * int64_t{sizeof(int32_t)};
  QUIRE_ASSIGN_OR_RETURN(workspace_, AllocateCuda(bytes));
  return CudaStatus(cudaMemsetAsync(workspace_->data(), 0, bytes, stream_),
                    "workspace");
}

bool StreamGemm::CanRun(const PlainGemmParams& params) {
  if (params.adds && (params.is_gated || params.y_dtype != params.dtype)) {
    return false;
  }
  return params.dtype == DType::kBf16 && params.m <= kMaxStreamTokens &&
         params.k % 8 == 0 && params.x_stride % 8 == 0 &&
         params.n % (params.is_gated ? 2 * kGatedRows : 8) == 0 &&
         params.y_stride % 8 == 0 && IsAligned(params.x) &&
         IsAligned(params.w) && IsAligned(params.y) && IsAligned(params.bias);
}

absl::StatusOr<const StreamGemm::TensorMap*> StreamGemm::MapOf(
    const MapKey& key) {
  std::unique_ptr<TensorMap>& map = maps_[key];
  if (map != nullptr) return map.get();
  const auto& [data, rows, cols, stride, box_rows] = key;
  auto made = std::make_unique<TensorMap>();
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(cols),
                              static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride) * 2};  // bytes
  const cuuint32_t box[] = {kStreamTileCols, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[] = {1, 1};
  const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(
      encode_)(&made->map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, /*rank=*/2,
               const_cast<void*>(data), sizes, strides, box, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    return absl::InternalError(absl::StrCat("cuTensorMapEncodeTiled of ", rows,
                                            "x", cols, ": error ",
                                            static_cast<int>(result)));
  }
  map = std::move(made);
  return map.get();
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
      const TensorMap* w,
      MapOf({params.w, params.n, params.k, params.k, kStreamTileRows}));
  QUIRE_ASSIGN_OR_RETURN(
      const TensorMap* x,
      MapOf({params.x, params.m, params.k, params.x_stride, tokens}));
  StreamGemmArgs args = {};
  args.y = params.y;
  args.bias = params.bias;
  args.partials = workspace_->as<float>();
  args.flags = reinterpret_cast<int32_t*>(workspace_->as<char>() +
                                          PartialBytes(num_sms_));
  args.y_stride = params.y_stride;
  args.m = static_cast<int32_t>(params.m);
  args.n = static_cast<int32_t>(params.n);
  args.plan = PlanOf(params.n, params.k);
  args.y_is_float = params.y_dtype == DType::kF32;
  args.is_gated = params.is_gated;
  args.adds = params.adds;
  return CudaStatus(LaunchStreamGemm(w->map, x->map, args, tokens, stream_),
                    "a product of few rows");
}

}  // namespace quire
