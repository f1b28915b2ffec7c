// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_PRODUCT_TIMER_H_
#define KERNELS_CUDA_PRODUCT_TIMER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

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

  // One way to compute a product.
  struct Trial {
    std::function<absl::Status()> enqueue;  // on the stream
    float allowance = 1.0f;  // it may take so many times as long as others
  };

  // The fastest of the trials, by the medians of runs in turns, so that clocks
  // and what else the machine does are the same for all; what takes a fifth
  // longer at first runs but twice. Trials that are Unimplemented are passed
  // over, and so is the result if all are; fails as trials and the device do.
  // Waits for it.
  absl::StatusOr<size_t> FastestOf(const std::vector<Trial>& trials);

 private:
  struct Entrant;

  explicit ProductTimer(cudaStream_t stream) : stream_(stream) {}

  // Enqueues a trial between two events, its operands out of the cache.
  absl::Status Enqueue(const Trial& trial, cudaEvent_t begin, cudaEvent_t end);
  // Those that are worth another look, each after a run to load it and one that
  // was timed.
  absl::StatusOr<std::vector<Entrant>> Shortlist(
      const std::vector<Trial>& trials);
  // Runs each once and notes how long it took.
  absl::Status RunInTurn(const std::vector<Trial>& trials,
                         std::vector<Entrant>* entrants);

  const cudaStream_t stream_;
  // A pair for each of a round's runs, made as needed.
  std::vector<cudaEvent_t> events_;
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
