// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_weight.h"

#include <algorithm>
#include <thread>

#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/gated_rows.h"

namespace quire {
namespace {

// Copies of host rows while weights load: enough for a PCIe link.
constexpr int kUploadThreads = 4;

int NumUploadThreads() {
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(threads, 1, kUploadThreads);
}

int64_t RowsOf(absl::Span<const HostMatrix> stacked) {
  CHECK(!stacked.empty());
  int64_t rows = 0;
  for (const HostMatrix& matrix : stacked) {
    CHECK_EQ(matrix.cols, stacked.front().cols);
    rows += matrix.rows;
  }
  return rows;
}

}  // namespace

CudaWeightPacker::CudaWeightPacker(DType dtype, cudaStream_t stream)
    : dtype_(dtype), stream_(stream), upload_(stream, NumUploadThreads()) {}

absl::StatusOr<std::unique_ptr<DeviceBuffer>> CudaWeightPacker::Upload(
    absl::Span<const HostMatrix> stacked) {
  const int64_t rows = RowsOf(stacked);
  QUIRE_ASSIGN_OR_RETURN(
      std::unique_ptr<DeviceBuffer> buffer,
      AllocateCuda(rows * stacked.front().cols * SizeOf(dtype_)));
  QUIRE_RETURN_IF_ERROR(upload_.Run(stacked, dtype_, buffer->data()));
  return buffer;
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaWeightPacker::PackWeight(
    absl::Span<const HostMatrix> stacked) {
  QUIRE_ASSIGN_OR_RETURN(auto rows, Upload(stacked));
  return std::make_unique<CudaWeight>(RowsOf(stacked), stacked.front().cols,
                                      /*is_in_turns=*/false, std::move(rows));
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaWeightPacker::PackGated(
    const HostMatrix& gate, const HostMatrix& up) {
  CHECK_EQ(gate.rows, up.rows);
  QUIRE_ASSIGN_OR_RETURN(auto rows, Upload({gate, up}));
  const bool is_in_turns = gate.rows % kGatedRows == 0;
  if (is_in_turns) {
    const int64_t half = rows->bytes() / 2;
    const int64_t turn = kGatedRows * gate.cols * SizeOf(dtype_);
    QUIRE_ASSIGN_OR_RETURN(auto turns, AllocateCuda(rows->bytes()));
    for (int i : {0, 1}) {
      QUIRE_RETURN_IF_CUDA_ERROR(
          cudaMemcpy2DAsync(turns->as<char>() + i * turn, 2 * turn,
                            rows->as<char>() + i * half, turn, turn,
                            gate.rows / kGatedRows, cudaMemcpyDeviceToDevice,
                            stream_),
          "dealing out gates");
    }
    // The halves are freed on return.
    QUIRE_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_),
                               "dealing out gates");
    rows = std::move(turns);
  }
  return std::make_unique<CudaWeight>(2 * gate.rows, gate.cols, is_in_turns,
                                      std::move(rows));
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaWeightPacker::PackExperts(
    absl::Span<const HostMatrix> stacked, int32_t num_experts) {
  const int64_t n = RowsOf(stacked);
  CHECK_EQ(n % num_experts, 0);
  QUIRE_ASSIGN_OR_RETURN(auto rows, Upload(stacked));
  return std::make_unique<CudaWeight>(n / num_experts, stacked.front().cols,
                                      /*is_in_turns=*/false, std::move(rows));
}

}  // namespace quire
