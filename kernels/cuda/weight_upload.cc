// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/weight_upload.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/elementwise.h"

namespace quire {
namespace {

// Long enough that starting threads for each costs nothing.
constexpr int64_t kPieceBytes = 32 << 20;
// What is worth a thread.
constexpr int64_t kBytesPerThread = 1 << 20;

}  // namespace

absl::Status WeightUpload::Prepare() {
  for (Piece& piece : pieces_) {
    if (piece.sent != nullptr) continue;
    QUIRE_ASSIGN_OR_RETURN(piece.pinned, AllocatePinned(kPieceBytes));
    QUIRE_ASSIGN_OR_RETURN(piece.raw, AllocateCuda(kPieceBytes));
    QUIRE_RETURN_IF_CUDA_ERROR(
        cudaEventCreateWithFlags(&piece.sent, cudaEventDisableTiming),
        "upload");
  }
  return absl::OkStatus();
}

void WeightUpload::Release() {
  for (Piece& piece : pieces_) {
    if (piece.sent == nullptr) continue;
    cudaEventSynchronize(piece.sent);
    cudaEventDestroy(piece.sent);
    piece = Piece();
  }
}

void WeightUpload::Fill(const HostMatrix& matrix, int64_t first_row,
                        int64_t num_rows, char* to) const {
  const int64_t element = SizeOf(matrix.dtype);
  const int64_t row_bytes = matrix.cols * element;
  const char* from = static_cast<const char*>(matrix.data);
  const auto copy = [=](int64_t begin, int64_t end) {
    if (matrix.row_stride == matrix.cols) {
      std::memcpy(to + begin * row_bytes,
                  from + (first_row + begin) * row_bytes,
                  (end - begin) * row_bytes);
      return;
    }
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(to + row * row_bytes,
                  from + (first_row + row) * matrix.row_stride * element,
                  row_bytes);
    }
  };
  const int64_t threads = std::min<int64_t>(
      num_threads_,
      std::max<int64_t>(1, num_rows * row_bytes / kBytesPerThread));
  const int64_t share = (num_rows + threads - 1) / threads;
  std::vector<std::thread> others;
  for (int64_t begin = share; begin < num_rows; begin += share) {
    others.emplace_back(copy, begin, std::min(num_rows, begin + share));
  }
  copy(0, std::min(num_rows, share));
  for (std::thread& other : others) other.join();
}

absl::Status WeightUpload::Run(absl::Span<const HostMatrix> stacked,
                               DType dtype, void* device) {
  QUIRE_RETURN_IF_ERROR(Prepare());
  char* to = static_cast<char*>(device);
  for (const HostMatrix& matrix : stacked) {
    const int64_t row_bytes = matrix.cols * SizeOf(matrix.dtype);
    if (row_bytes > kPieceBytes) {
      return absl::InvalidArgumentError("a row of weights beyond 32 MiB");
    }
    const int64_t rows_at_once = kPieceBytes / std::max<int64_t>(1, row_bytes);
    for (int64_t row = 0; row < matrix.rows; row += rows_at_once) {
      const int64_t num_rows = std::min(rows_at_once, matrix.rows - row);
      const int64_t num_elements = num_rows * matrix.cols;
      Piece& piece = pieces_[next_];
      next_ = 1 - next_;
      QUIRE_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(piece.sent), "upload");
      Fill(matrix, row, num_rows, piece.pinned->as<char>());
      const bool is_same = matrix.dtype == dtype;
      void* landing = is_same ? to : piece.raw->data();
      QUIRE_RETURN_IF_CUDA_ERROR(
          cudaMemcpyAsync(landing, piece.pinned->data(), num_rows * row_bytes,
                          cudaMemcpyHostToDevice, stream_),
          "upload");
      if (!is_same) {
        QUIRE_RETURN_IF_CUDA_ERROR(LaunchCastCuda(landing, matrix.dtype, to,
                                                  dtype, num_elements, stream_),
                                   "upload");
      }
      QUIRE_RETURN_IF_CUDA_ERROR(cudaEventRecord(piece.sent, stream_),
                                 "upload");
      to += num_elements * SizeOf(dtype);
    }
  }
  return absl::OkStatus();
}

}  // namespace quire
