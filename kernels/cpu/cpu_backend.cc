// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/activation.h"
#include "kernels/cpu/choose_tokens.h"
#include "kernels/cpu/copy_blocks.h"
#include "kernels/cpu/cpu_virtual_memory.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/host_limits.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/key_bounds.h"
#include "kernels/cpu/moe.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/onednn_gemm.h"
#include "kernels/cpu/packed_gemm.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/cpu/rope_kv.h"
#include "kernels/cpu/sample.h"

namespace quire {
namespace {

class CpuBuffer final : public DeviceBuffer {
 public:
  explicit CpuBuffer(HostMemory memory)
      : DeviceBuffer(memory.data(), memory.bytes()),
        memory_(std::move(memory)) {}

 private:
  HostMemory memory_;
};

std::unique_ptr<CpuGemm> MakeGemm(CpuGemmKind kind, DType dtype,
                                  const ThreadTeam* team) {
  if (kind == CpuGemmKind::kOneDnn) {
    return std::make_unique<OneDnnGemm>(dtype, team);
  }
  return std::make_unique<PackedGemm>(dtype, team);
}

// Each expert packed on its own, as products of few rows are fastest.
class CpuExperts final : public PackedWeight {
 public:
  CpuExperts(int64_t n, int64_t k, int64_t bytes,
             std::vector<std::unique_ptr<PackedWeight>> experts)
      : PackedWeight(n, k, bytes), experts_(std::move(experts)) {}

  const PackedWeight& expert(int32_t idx) const { return *experts_[idx]; }

 private:
  std::vector<std::unique_ptr<PackedWeight>> experts_;
};

// Takes the first `rows` rows off a stack.
std::vector<HostMatrix> TakeRows(int64_t rows,
                                 absl::Span<const HostMatrix>* stacked,
                                 int64_t* first_row) {
  std::vector<HostMatrix> taken;
  while (rows > 0) {
    CHECK(!stacked->empty());
    HostMatrix part = stacked->front();
    part.data = static_cast<const char*>(part.data) +
                *first_row * part.row_stride * SizeOf(part.dtype);
    part.rows = std::min(rows, part.rows - *first_row);
    *first_row += part.rows;
    rows -= part.rows;
    if (*first_row == stacked->front().rows) {
      stacked->remove_prefix(1);
      *first_row = 0;
    }
    taken.push_back(part);
  }
  return taken;
}

void CheckEqualColumns(absl::Span<const HostMatrix> stacked) {
  CHECK(!stacked.empty());
  for (const HostMatrix& matrix : stacked) {
    CHECK_EQ(matrix.cols, stacked.front().cols);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> CpuBackend::Create(
    const CpuBackendOptions& options) {
  if (options.num_threads < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_threads is ", options.num_threads,
                     "; it must be 0 (all processors) or more"));
  }
  const int num_threads =
      options.num_threads > 0 ? options.num_threads : NumUsableCpus();
  return std::unique_ptr<Backend>(
      new CpuBackend(options.dtype, num_threads, options.gemm));
}

CpuBackend::CpuBackend(DType dtype, int num_threads, CpuGemmKind gemm)
    : dtype_(dtype),
      team_(num_threads),
      gemm_(MakeGemm(gemm, dtype, &team_)),
      attention_(num_threads),
      sample_(num_threads) {}

absl::StatusOr<MemoryInfo> CpuBackend::GetMemoryInfo() {
  return ReadHostMemory();
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::Allocate(
    int64_t bytes) {
  QUIRE_ASSIGN_OR_RETURN(HostMemory memory, HostMemory::Allocate(bytes));
  return std::make_unique<CpuBuffer>(std::move(memory));
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::AllocateHost(
    int64_t bytes) {
  return Allocate(bytes);
}

absl::StatusOr<std::unique_ptr<VirtualMemory>> CpuBackend::ReserveVirtual(
    const VirtualMemoryOptions& options) {
  return CpuVirtualMemory::Reserve(options);
}

absl::Status CpuBackend::CopyToDevice(const void* host, void* device,
                                      int64_t bytes) {
  std::memcpy(device, host, bytes);
  return absl::OkStatus();
}

absl::Status CpuBackend::CopyToHost(const void* device, void* host,
                                    int64_t bytes) {
  std::memcpy(host, device, bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CpuBackend::PackWeight(
    absl::Span<const HostMatrix> stacked) {
  CheckEqualColumns(stacked);
  return gemm_->Pack(stacked);
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CpuBackend::PackExperts(
    absl::Span<const HostMatrix> stacked, int32_t num_experts) {
  CheckEqualColumns(stacked);
  const int64_t k = stacked.front().cols;
  int64_t rows = 0, bytes = 0;
  for (const HostMatrix& matrix : stacked) rows += matrix.rows;
  CHECK_EQ(rows % num_experts, 0);
  std::vector<std::unique_ptr<PackedWeight>> experts;
  int64_t first_row = 0;
  for (int32_t e = 0; e < num_experts; ++e) {
    QUIRE_ASSIGN_OR_RETURN(
        auto expert,
        gemm_->Pack(TakeRows(rows / num_experts, &stacked, &first_row)));
    bytes += expert->bytes();
    experts.push_back(std::move(expert));
  }
  return std::make_unique<CpuExperts>(rows / num_experts, k, bytes,
                                      std::move(experts));
}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::Upload(
    absl::Span<const HostMatrix> stacked) {
  CheckEqualColumns(stacked);
  const int64_t row_bytes = stacked.front().cols * SizeOf(dtype_);
  int64_t rows = 0;
  for (const HostMatrix& matrix : stacked) rows += matrix.rows;
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<DeviceBuffer> buffer,
                         Allocate(rows * row_bytes));
  char* to = buffer->as<char>();
  for (const HostMatrix& matrix : stacked) {
    team_.For(matrix.rows, /*grain=*/64, [&](int, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        ConvertElements(matrix, row * matrix.row_stride, matrix.cols, dtype_,
                        to + row * row_bytes);
      }
    });
    to += matrix.rows * row_bytes;
  }
  return buffer;
}

absl::Status CpuBackend::Gemm(const GemmParams& params) {
  return gemm_->Run(params);
}

absl::Status CpuBackend::Embedding(const EmbeddingParams& params) {
  EmbeddingCpu(params, dtype_, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::AddRows(const AddRowsParams& params) {
  AddRowsCpu(params, dtype_, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::GatherRows(const GatherRowsParams& params) {
  GatherRowsCpu(params, dtype_, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::Norm(const NormParams& params) {
  NormCpu(params, dtype_, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::Add(const AddParams& params) {
  AddCpu(params, dtype_, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::Activation(const ActivationParams& params) {
  ActivationCpu(params, dtype_, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::RouteTokens(const RouteTokensParams& params) {
  DCHECK(params.top_k >= 1 && params.top_k <= params.num_experts);
  DCHECK_LE(params.num_experts, kMaxExperts);
  RouteTokensCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::ExpertGemm(const ExpertGemmParams& params) {
  const auto& experts = static_cast<const CpuExperts&>(*params.weight);
  const int64_t n = experts.n(), k = experts.k();
  for (int32_t e = 0; e < params.num_experts; ++e) {
    const int64_t first = params.expert_start[e];
    const int32_t rows = params.expert_start[e + 1] - params.expert_start[e];
    if (rows == 0) continue;
    const void* x =
        static_cast<const char*>(params.x) + first * k * SizeOf(dtype_);
    if (params.row_tokens != nullptr) {
      void* gathered = expert_rows_.Get<char>(rows * k * SizeOf(dtype_));
      GatherRowsCpu({.x = params.x,
                     .rows = params.row_tokens + first,
                     .out = gathered,
                     .width = static_cast<int32_t>(k),
                     .num_rows = rows},
                    dtype_, team_);
      x = gathered;
    }
    QUIRE_RETURN_IF_ERROR(gemm_->Run(
        {.x = x,
         .x_stride = k,
         .weight = &experts.expert(e),
         .bias = nullptr,
         .y = static_cast<char*>(params.y) + first * n * SizeOf(params.y_dtype),
         .y_stride = n,
         .y_dtype = params.y_dtype,
         .m = rows}));
  }
  return absl::OkStatus();
}

absl::Status CpuBackend::CombineExperts(const CombineExpertsParams& params) {
  CombineExpertsCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::RopeWriteKv(const RopeWriteKvParams& params) {
  DCHECK(params.cache.layout.dtype == dtype_);
  RopeWriteKvCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::UpdateKeyBounds(const UpdateKeyBoundsParams& params) {
  DCHECK(params.cache.layout.dtype == dtype_);
  DCHECK(params.cache.layout.has_key_bounds);
  UpdateKeyBoundsCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::Attention(const AttentionParams& params) {
  DCHECK(params.cache.layout.dtype == dtype_);
  AttentionCpu(params, team_, &attention_);
  return absl::OkStatus();
}

absl::Status CpuBackend::CopyBlocks(const BlockCopyParams& params) {
  CopyBlocksCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::SwapOutBlocks(const BlockCopyParams& params) {
  CopyBlocksCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::SwapInBlocks(const BlockCopyParams& params) {
  CopyBlocksCpu(params, team_);
  return absl::OkStatus();
}

absl::Status CpuBackend::SampleShard(const SampleShardParams& params) {
  SampleShardCpu(params, team_, &sample_);
  return absl::OkStatus();
}

absl::Status CpuBackend::ChooseTokens(const ChooseTokensParams& params) {
  ChooseTokensCpu(params, team_, &sample_);
  return absl::OkStatus();
}

absl::Status CpuBackend::MergeChoices(const MergeChoicesParams& params) {
  MergeChoicesCpu(params);
  return absl::OkStatus();
}

absl::Status CpuBackend::CopyRuns(const CopyRunsParams& params) {
  CopyRunsCpu(params);
  return absl::OkStatus();
}

}  // namespace quire
