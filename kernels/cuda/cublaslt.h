// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt, found on the host when it is first needed: nothing links to it, so
// that one binary runs on machines with and without it.
#ifndef KERNELS_CUDA_CUBLASLT_H_
#define KERNELS_CUDA_CUBLASLT_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cublasLt.h"

namespace quire {

// The library's functions, by their names less "cublasLt".
struct CublasLt {
#define QUIRE_CUBLASLT_FUNCTIONS(F) \
  F(Create)                         \
  F(Destroy)                        \
  F(GetVersion)                     \
  F(GetStatusString)                \
  F(MatmulDescCreate)               \
  F(MatmulDescDestroy)              \
  F(MatmulDescSetAttribute)         \
  F(MatrixLayoutCreate)             \
  F(MatrixLayoutDestroy)            \
  F(MatmulPreferenceCreate)         \
  F(MatmulPreferenceDestroy)        \
  F(MatmulPreferenceSetAttribute)   \
  F(MatmulAlgoGetHeuristic)         \
  F(MatmulAlgoCheck)                \
  F(MatmulAlgoConfigGetAttribute)   \
  F(MatmulAlgoConfigSetAttribute)   \
  F(Matmul)

#define QUIRE_CUBLASLT_MEMBER(name) decltype(&cublasLt##name) name;
  QUIRE_CUBLASLT_FUNCTIONS(QUIRE_CUBLASLT_MEMBER)
#undef QUIRE_CUBLASLT_MEMBER

  // Loads it once a process. NotFound, naming where it was looked for: the
  // file that QUIRE_CUBLASLT names, the loader's own path, CUDA_HOME and
  // /usr/local/cuda.
  static absl::StatusOr<const CublasLt*> Load();

  absl::Status Check(cublasStatus_t status, const char* operation) const;
};

}  // namespace quire

#endif  // KERNELS_CUDA_CUBLASLT_H_
