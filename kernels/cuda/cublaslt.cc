// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace quire {
namespace {

constexpr char kName[] = "libcublasLt.so.13";

std::vector<std::string> Places() {
  std::vector<std::string> places;
  if (const char* file = std::getenv("QUIRE_CUBLASLT")) places.push_back(file);
  places.push_back(kName);
  if (const char* home = std::getenv("CUDA_HOME")) {
    places.push_back(absl::StrCat(home, "/lib64/", kName));
  }
  places.push_back(absl::StrCat("/usr/local/cuda/lib64/", kName));
  return places;
}

absl::StatusOr<const CublasLt*> LoadOnce() {
  void* library = nullptr;
  const std::vector<std::string> places = Places();
  for (const std::string& place : places) {
    library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
  }
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        "cuBLASLt 13 is not on this machine (looked for ",
        absl::StrJoin(places, ", "),
        "); install CUDA 13's libraries, or let QUIRE_CUBLASLT name the file"));
  }
  static CublasLt functions;
#define QUIRE_CUBLASLT_FIND(name)                                          \
  functions.name = reinterpret_cast<decltype(functions.name)>(             \
      dlsym(library, "cublasLt" #name));                                   \
  if (functions.name == nullptr) {                                         \
    return absl::NotFoundError("cuBLASLt has no function cublasLt" #name); \
  }
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
