// SPDX-License-Identifier: Apache-2.0
//
// The backend that every machine has: vectorised by Highway for the best
// instruction set found at run time, and multi-threaded.
#ifndef KERNELS_CPU_CPU_BACKEND_H_
#define KERNELS_CPU_CPU_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_gemm.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/thread_team.h"

namespace quire {

enum class CpuGemmKind : uint8_t {
  kAuto,    // what was measured to be faster on this kind of processor
  kPacked,  // our own kernels over packed panels
  kOneDnn,  // oneDNN on fixed row tiles
};

struct CpuBackendOptions {
  DType dtype = DType::kF32;  // T of every operation
  int num_threads = 0;        // 0: all that the process may run on
  CpuGemmKind gemm = CpuGemmKind::kAuto;
};

// Operations run on the calling thread and its OpenMP team and are done when
// they return; they allocate nothing once they have met their largest shape.
// Device and host memory are the same. Thread-compatible: one caller at a time.
// With num_threads = 1 no other thread is ever started. Weights and buffers may
// outlive the backend.
class CpuBackend final : public Backend {
 public:
  // InvalidArgument for a negative num_threads.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(
      const CpuBackendOptions& options);

  std::string name() const override { return "cpu"; }
  DType dtype() const override { return dtype_; }
  DType partial_dtype() const override { return DType::kF32; }

  absl::StatusOr<MemoryInfo> GetMemoryInfo() override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(
      int64_t bytes) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> AllocateHost(
      int64_t bytes) override;
  absl::Status CopyToDevice(const void* host, void* device,
                            int64_t bytes) override;
  absl::Status CopyToHost(const void* device, void* host,
                          int64_t bytes) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }

  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override;

  absl::Status Gemm(const GemmParams& params) override;
  absl::Status Embedding(const EmbeddingParams& params) override;
  absl::Status AddRows(const AddRowsParams& params) override;
  absl::Status GatherRows(const GatherRowsParams& params) override;
  absl::Status Norm(const NormParams& params) override;
  absl::Status Add(const AddParams& params) override;
  absl::Status Activation(const ActivationParams& params) override;
  absl::Status RopeWriteKv(const RopeWriteKvParams& params) override;
  absl::Status Attention(const AttentionParams& params) override;
  absl::Status CopyBlocks(const BlockCopyParams& params) override;
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override;
  absl::Status SwapInBlocks(const BlockCopyParams& params) override;
  absl::Status SampleShard(const SampleShardParams& params) override;

 private:
  CpuBackend(DType dtype, int num_threads, CpuGemmKind gemm);

  DType dtype_;
  ThreadTeam team_;
  std::unique_ptr<CpuGemm> gemm_;
  AttentionWorkspace attention_;
  ThreadScratch sample_;
};

}  // namespace quire

#endif  // KERNELS_CPU_CPU_BACKEND_H_
