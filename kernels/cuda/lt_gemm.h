// SPDX-License-Identifier: Apache-2.0
//
// Products by cuBLASLt, each shape by the algorithm that was fastest when it
// was first met.
#ifndef KERNELS_CUDA_LT_GEMM_H_
#define KERNELS_CUDA_LT_GEMM_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/backend.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemm_cache.h"
#include "kernels/cuda/plain_gemm.h"
#include "kernels/dtype.h"

namespace quire {

struct LtGemmOptions {
  // One algorithm for each (n, k), whatever m is, without split sums: a row's
  // result does not depend on the other rows. It is chosen for 128 rows, so
  // that few rows and very many are slower than they could be.
  bool is_deterministic = false;
  // Times the library's best guesses on the device when a bucket of m is first
  // met; otherwise takes its first guess. Not while a graph is captured, where
  // memory has no room to time in, or where ranks must do alike.
  bool is_tuned = true;
  // Where choices are kept for the next process, or empty. Those of another
  // library version or device are passed over.
  std::string cache_path = "";
};

// m up to the returned number share an algorithm.
int64_t GemmBucketOf(int64_t m);

GemmKey GemmKeyOf(const PlainGemmParams& params);

// Thread-compatible. Device memory: a workspace of 64 MiB.
class LtGemm {
 public:
  // NotFound without cuBLASLt.
  static absl::StatusOr<std::unique_ptr<LtGemm>> Create(
      const LtGemmOptions& options, cudaStream_t stream);
  ~LtGemm();
  LtGemm(const LtGemm&) = delete;
  LtGemm& operator=(const LtGemm&) = delete;

  // Whether sizes, strides and addresses are multiples of 16 bytes, and nothing
  // is gated.
  static bool CanRun(const PlainGemmParams& params);

  // Enqueues. REQUIRES: CanRun(params). bfloat16 products add in float;
  // float ones are float throughout. Unimplemented, which is remembered, where
  // the library has no algorithm or, if deterministic, none for every m.
  absl::Status Run(const PlainGemmParams& params);

  // Of library, device and mode.
  const std::string& signature() const { return signature_; }
  // Shapes whose algorithm was timed by this object.
  int64_t num_tuned() const { return num_tuned_; }

 private:
  struct Product;
  struct Choice {
    std::optional<cublasLtMatmulAlgo_t> algorithm;  // none: there is none
    bool is_known = false;
  };

  LtGemm(const LtGemmOptions& options, const CublasLt* lt, cudaStream_t stream);

  absl::Status Init();
  // Chosen before, if it was.
  std::optional<cublasLtMatmulAlgo_t> Find(const GemmKey& key) const;
  void Keep(const GemmKey& key, const cublasLtMatmulAlgo_t& algorithm);
  absl::StatusOr<std::unique_ptr<Product>> Prepare(
      const PlainGemmParams& params);
  absl::StatusOr<std::vector<cublasLtMatmulAlgo_t>> Guess(
      const Product& product, int max_guesses);
  // Adds the guesses with other clusters of blocks.
  void AddClusters(const Product& product,
                   std::vector<cublasLtMatmulAlgo_t>* guesses) const;
  absl::StatusOr<cublasLtMatmulAlgo_t> Choose(const PlainGemmParams& params,
                                              const Product& product);
  absl::StatusOr<cublasLtMatmulAlgo_t> ChooseForAnyM(
      const PlainGemmParams& params);
  absl::StatusOr<cublasLtMatmulAlgo_t> Time(
      const PlainGemmParams& params, const Product& product,
      const std::vector<cublasLtMatmulAlgo_t>& guesses);
  bool Fits(const Product& product,
            const cublasLtMatmulAlgo_t& algorithm) const;
  int64_t Config(const cublasLtMatmulAlgo_t& algorithm,
                 cublasLtMatmulAlgoConfigAttributes_t attribute) const;
  absl::Status Enqueue(const PlainGemmParams& params, const Product& product,
                       const cublasLtMatmulAlgo_t& algorithm);

  LtGemmOptions options_;
  const CublasLt* lt_;
  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  std::unique_ptr<DeviceBuffer> workspace_;
  std::string signature_;
  std::unique_ptr<GemmCache> chosen_;
  std::set<GemmKey> lacking_;  // of those for any m, for which there is none
  // By exact sizes and strides.
  using Exact =
      std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int, int, int>;
  std::map<Exact, std::unique_ptr<Product>> products_;
  int64_t num_tuned_ = 0;
};

}  // namespace quire

#endif  // KERNELS_CUDA_LT_GEMM_H_
