// SPDX-License-Identifier: Apache-2.0
//
// Weights from (mapped) host memory to a device, through pinned memory.
#ifndef KERNELS_CUDA_WEIGHT_UPLOAD_H_
#define KERNELS_CUDA_WEIGHT_UPLOAD_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/dtype.h"

namespace quire {

// Two pinned pieces take turns: while one is on its way, threads fill the other
// with rows. What has another dtype is converted on the device. The pieces are
// allocated by the first upload and live until Release().
class WeightUpload {
 public:
  explicit WeightUpload(cudaStream_t stream, int num_threads)
      : stream_(stream), num_threads_(num_threads) {}
  ~WeightUpload() { Release(); }
  WeightUpload(const WeightUpload&) = delete;
  WeightUpload& operator=(const WeightUpload&) = delete;

  // Stacks the matrices' rows densely at `device`, in `dtype`. The sources may
  // go when it returns; the last of it may still be on its way.
  absl::Status Run(absl::Span<const HostMatrix> stacked, DType dtype,
                   void* device);

  // Gives the pieces back; waits for what is on its way.
  void Release();

 private:
  struct Piece {
    std::unique_ptr<DeviceBuffer> pinned;
    std::unique_ptr<DeviceBuffer> raw;  // before conversion
    cudaEvent_t sent = nullptr;
  };

  absl::Status Prepare();
  void Fill(const HostMatrix& matrix, int64_t first_row, int64_t num_rows,
            char* to) const;

  cudaStream_t stream_;
  int num_threads_;
  std::array<Piece, 2> pieces_;
  int next_ = 0;
};

}  // namespace quire

#endif  // KERNELS_CUDA_WEIGHT_UPLOAD_H_
