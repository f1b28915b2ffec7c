// SPDX-License-Identifier: Apache-2.0
//
// Our own products against the reference in double precision: bias, gates,
// sums with what was there, floats; outputs are poisoned, and gaps between
// their rows are not to be written.
#ifndef TESTS_KERNELS_CUDA_OWN_PRODUCT_WORLD_H_
#define TESTS_KERNELS_CUDA_OWN_PRODUCT_WORLD_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/plain_gemm.h"
#include "tests/kernels/tensor.h"

namespace quire {

enum class ProductKind { kPlain, kBias, kFloat, kAdds, kGated };

inline constexpr ProductKind kProductKinds[] = {
    ProductKind::kPlain, ProductKind::kBias, ProductKind::kFloat,
    ProductKind::kAdds, ProductKind::kGated};

struct ProductCase {
  int64_t m, n, k;
};

class OwnProductWorld {
 public:
  // Enqueues on `stream`.
  using Multiply = std::function<absl::Status(const PlainGemmParams&)>;

  OwnProductWorld(cudaStream_t stream, Multiply multiply)
      : stream_(stream), multiply_(std::move(multiply)) {}

  // Random operands, the same each time.
  void Check(const ProductCase& c, ProductKind kind) const;
  // That several runs give the same bits.
  void CheckRepeats(const ProductCase& c) const;

 private:
  Tensor Run(const ProductCase& c, ProductKind kind, const Tensor& x,
             const Tensor& w, const Tensor& bias, const Tensor& before) const;

  const cudaStream_t stream_;
  const Multiply multiply_;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_OWN_PRODUCT_WORLD_H_
