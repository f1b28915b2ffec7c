// SPDX-License-Identifier: Apache-2.0
//
// Our own products against the reference in double precision: bias, gates,
// sums with what was there, floats; outputs are poisoned, and gaps between
// their rows are not to be written. And what their tests share besides: a
// stream, and a product upon it.
#ifndef TESTS_KERNELS_CUDA_OWN_PRODUCT_WORLD_H_
#define TESTS_KERNELS_CUDA_OWN_PRODUCT_WORLD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
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

// A copy in device memory.
std::unique_ptr<DeviceBuffer> Upload(const Tensor& tensor);

class OwnProductWorld {
 public:
  // Enqueues on `stream`.
  using Multiply = std::function<absl::Status(const PlainGemmParams&)>;

  OwnProductWorld(cudaStream_t stream, Multiply multiply)
      : stream_(stream), multiply_(std::move(multiply)) {}

  // Of random operands, the same each time.
  testing::AssertionResult AgreesWithReference(const ProductCase& c,
                                               ProductKind kind) const;
  // Several runs have the same bits.
  testing::AssertionResult Repeats(const ProductCase& c) const;
  testing::AssertionResult HasBitsOf(const OwnProductWorld& other,
                                     const ProductCase& c,
                                     ProductKind kind) const;

 private:
  struct Operands;

  Tensor Run(const ProductCase& c, ProductKind kind,
             const Operands& operands) const;

  const cudaStream_t stream_;
  const Multiply multiply_;
};

// Skips where there is no GPU for `Gemm`.
template <typename Gemm, typename Param>
class OwnProductFixture : public testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             cudaSuccess);
    absl::StatusOr<std::unique_ptr<Gemm>> gemm = Create();
    ASSERT_TRUE(gemm.ok()) << gemm.status();
    gemm_ = *std::move(gemm);
    if (gemm_ == nullptr) GTEST_SKIP() << "no Hopper GPU";
  }
  void TearDown() override {
    gemm_.reset();
    cudaStreamDestroy(stream_);
  }

  // On `stream_`; null without a GPU for it.
  virtual absl::StatusOr<std::unique_ptr<Gemm>> Create() = 0;
  // As the parameter says.
  virtual absl::Status Multiply(const PlainGemmParams& params) = 0;

  OwnProductWorld World() {
    return OwnProductWorld(stream_, [this](const PlainGemmParams& params) {
      CHECK(Gemm::CanRun(params));
      return Multiply(params);
    });
  }

  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Gemm> gemm_;
};

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_OWN_PRODUCT_WORLD_H_
