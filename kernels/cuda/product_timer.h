// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_PRODUCT_TIMER_H_
#define KERNELS_CUDA_PRODUCT_TIMER_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/plain_gemm.h"

namespace quire {

// Times products whose weights come from memory, as in a model.
// Thread-compatible. Device memory: 128 MiB while it lives.
class ProductTimer {
 public:
  // Whether a graph is captured on the stream: then nothing can be timed.
  static bool IsCapturing(cudaStream_t stream);

  static absl::StatusOr<std::unique_ptr<ProductTimer>> Create(
      cudaStream_t stream);
  ~ProductTimer();
  ProductTimer(const ProductTimer&) = delete;
  ProductTimer& operator=(const ProductTimer&) = delete;

  // Median milliseconds of what `enqueue` enqueues on the stream, after a run
  // to load it; of one run alone if that takes longer than `hopeless_ms`.
  // Fails as `enqueue` and the device do. Waits for the device.
  absl::StatusOr<float> Time(const std::function<absl::Status()>& enqueue,
                             float hopeless_ms);

 private:
  explicit ProductTimer(cudaStream_t stream) : stream_(stream) {}

  const cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
  // Read between runs. Null if there is no memory for it: then timings are of
  // weights in the cache, wrong, but not fatal.
  std::unique_ptr<DeviceBuffer> flush_;
};

// The same product, which may run as often as it takes: what it would add to is
// in `elsewhere`, and nothing goes to peers.
absl::StatusOr<PlainGemmParams> TrialOf(
    const PlainGemmParams& params, std::unique_ptr<DeviceBuffer>* elsewhere);

}  // namespace quire

#endif  // KERNELS_CUDA_PRODUCT_TIMER_H_
