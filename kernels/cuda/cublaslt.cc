// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt.h"

#include "absl/strings/str_cat.h"
#include "common/gpu_library.h"
#include "common/status_macros.h"

namespace quire {
namespace {

absl::StatusOr<const CublasLt*> LoadOnce() {
  QUIRE_ASSIGN_OR_RETURN(
      const GpuLibrary library,
      GpuLibrary::Open({"cuBLASLt 13", "libcublasLt.so.13", "QUIRE_CUBLASLT",
                        "install CUDA 13's libraries"}));
  static CublasLt functions;
#define QUIRE_CUBLASLT_FIND(name) \
  QUIRE_RETURN_IF_ERROR(library.Bind("cublasLt" #name, &functions.name));
  QUIRE_CUBLASLT_FUNCTIONS(QUIRE_CUBLASLT_FIND)
#undef QUIRE_CUBLASLT_FIND
  return &functions;
}

}  // namespace

absl::StatusOr<const CublasLt*> CublasLt::Load() {
  static const auto* const loaded =
      new absl::StatusOr<const CublasLt*>(LoadOnce());
  return *loaded;
}

absl::Status CublasLt::Check(cublasStatus_t status,
                             const char* operation) const {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(operation, ": ", GetStatusString(status)));
}

}  // namespace quire
