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

// Which product multiplies. Measured on the products of a Llama-3.2-1B in
// bfloat16 (tests/kernels/cpu/gemm_bench), packed panels against row tiles:
//
//   16 Xeon cores with AMX          packed     oneDNN tiles   oneDNN itself
//     decode, batch 1               17.4 ms    40.2 ms
//     decode, batch 32              25.2 ms    39.6 ms
//     prefill, 512 rows, TFLOP/s    4.4        3.7            3.4
//   1 EPYC core (Zen 4), AVX512_BF16
//     n 16384, k 2048, 1 row        28 GB/s    5 GB/s
//     n 16384, k 2048, 8 rows       160        45             92 GFLOP/s
//     n 16384, k 2048, 512 rows     200        199            202 GFLOP/s
//
// Row tiles lose at few rows, whose padding they compute; with kernels of our
// own for AMX and AVX512_BF16 they win nowhere, so kAuto is kPacked everywhere.
enum class CpuGemmKind : uint8_t {
  kAuto,
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
  absl::StatusOr<std::unique_ptr<VirtualMemory>> ReserveVirtual(
      const VirtualMemoryOptions& options) override;
  absl::Status CopyToDevice(const void* host, void* device,
                            int64_t bytes) override;
  absl::Status CopyToHost(const void* device, void* host,
                          int64_t bytes) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }

  absl::StatusOr<std::unique_ptr<PackedWeight>> PackWeight(
      absl::Span<const HostMatrix> stacked) override;
  absl::StatusOr<std::unique_ptr<PackedWeight>> PackExperts(
      absl::Span<const HostMatrix> stacked, int32_t num_experts) override;
  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Upload(
      absl::Span<const HostMatrix> stacked) override;

  absl::Status Gemm(const GemmParams& params) override;
  absl::Status Embedding(const EmbeddingParams& params) override;
  absl::Status AddRows(const AddRowsParams& params) override;
  absl::Status GatherRows(const GatherRowsParams& params) override;
  absl::Status Norm(const NormParams& params) override;
  absl::Status Add(const AddParams& params) override;
  absl::Status Activation(const ActivationParams& params) override;
  absl::Status RouteTokens(const RouteTokensParams& params) override;
  absl::Status ExpertGemm(const ExpertGemmParams& params) override;
  absl::Status CombineExperts(const CombineExpertsParams& params) override;
  absl::Status RopeWriteKv(const RopeWriteKvParams& params) override;
  absl::Status UpdateKeyBounds(const UpdateKeyBoundsParams& params) override;
  absl::Status Attention(const AttentionParams& params) override;
  absl::Status CopyBlocks(const BlockCopyParams& params) override;
  absl::Status SwapOutBlocks(const BlockCopyParams& params) override;
  absl::Status SwapInBlocks(const BlockCopyParams& params) override;
  absl::Status SampleShard(const SampleShardParams& params) override;
  absl::Status ChooseTokens(const ChooseTokensParams& params) override;
  absl::Status MergeChoices(const MergeChoicesParams& params) override;
  absl::Status CopyRuns(const CopyRunsParams& params) override;

 private:
  CpuBackend(DType dtype, int num_threads, CpuGemmKind gemm);

  DType dtype_;
  ThreadTeam team_;
  std::unique_ptr<CpuGemm> gemm_;
  AttentionWorkspace attention_;
  ThreadScratch sample_;
  ScratchBuffer expert_rows_;  // of x, those of one expert
};

}  // namespace quire

#endif  // KERNELS_CPU_CPU_BACKEND_H_
