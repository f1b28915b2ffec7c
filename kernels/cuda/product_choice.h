// SPDX-License-Identifier: Apache-2.0
//
// Which kernel computes a product of many rows: none is the fastest in all
// shapes, so those that there are are timed.
#ifndef KERNELS_CUDA_PRODUCT_CHOICE_H_
#define KERNELS_CUDA_PRODUCT_CHOICE_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/gemm_cache.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/plain_gemm.h"

namespace quire {

// The numbers are kept in files.
enum class ProductKernel {
  kLibrary = 0,
  kTiles = 1,
  kPanels = 2,
  kMixedTiles = 3,  // in clusters of eight, and in pairs beside them
};

// Thread-compatible.
class ProductChoice {
 public:
  struct Candidate {
    ProductKernel kernel;
    std::function<bool(const PlainGemmParams&)> can_run;
    // Enqueues. Unimplemented, if it cannot after all.
    std::function<absl::Status(const PlainGemmParams&)> run;
  };

  // Choices are kept with the library's, in options.cache_path; those of
  // another `signature` or of other kernels of our own are passed over. All
  // candidates run on `stream`.
  ProductChoice(const LtGemmOptions& options, const std::string& signature,
                cudaStream_t stream, std::vector<Candidate> candidates);

  // Times the candidates that can run when a bucket of rows is first met.
  // Where nothing can be timed, the first of them: while a graph is captured,
  // and if options.is_tuned is false. Unimplemented if there is none.
  absl::StatusOr<ProductKernel> FastestOf(const PlainGemmParams& params);

 private:
  // Chosen before, among the candidates that can run.
  std::optional<ProductKernel> Find(const PlainGemmParams& params) const;
  absl::StatusOr<ProductKernel> Time(
      const PlainGemmParams& params,
      const std::vector<const Candidate*>& candidates);

  const bool is_tuned_;
  const cudaStream_t stream_;
  const std::vector<Candidate> candidates_;
  GemmCache fastest_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_PRODUCT_CHOICE_H_
