// SPDX-License-Identifier: Apache-2.0
//
// Which products of many rows are computed by our own tiles and which by
// cuBLASLt: neither is faster in all shapes, so both are timed.
#ifndef KERNELS_CUDA_TILE_CHOICE_H_
#define KERNELS_CUDA_TILE_CHOICE_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/lt_gemm.h"
#include "kernels/cuda/plain_gemm.h"

namespace quire {

// Thread-compatible.
class TileChoice {
 public:
  using Run = std::function<absl::Status(const PlainGemmParams&)>;

  // Choices are kept with the library's, in options.cache_path; those of
  // another `signature` are passed over. Both run on `stream`.
  TileChoice(const LtGemmOptions& options, const std::string& signature,
             cudaStream_t stream, Run library, Run tiles);

  // Times both when a bucket of rows is first met. False where nothing can be
  // timed: while a graph is captured, and if options.is_tuned is false.
  absl::StatusOr<bool> AreTilesFaster(const PlainGemmParams& params);

 private:
  void ReadCache();
  void AppendToCache(const GemmKey& key, bool has_tiles);
  absl::StatusOr<bool> Time(const PlainGemmParams& params);

  LtGemmOptions options_;
  const std::string signature_;
  const cudaStream_t stream_;
  const Run library_;
  const Run tiles_;
  std::map<GemmKey, bool> has_tiles_;
};

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_CHOICE_H_
