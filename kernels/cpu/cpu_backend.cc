// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/activation.h"
#include "kernels/cpu/copy_blocks.h"
#include "kernels/cpu/cpu_virtual_memory.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/host_limits.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cpu/key_bounds.h"
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

absl::Status CpuBackend::CopyRuns(const CopyRunsParams& params) {
  CopyRunsCpu(params);
  return absl::OkStatus();
}

}  // namespace quire
