// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace quire {
namespace {

constexpr char kName[] = "libnccl.so.2";
// The first whose non-blocking communicators end when they are told to.
constexpr int kOldest = NCCL_VERSION(2, 18, 1);

std::vector<std::string> Places() {
  std::vector<std::string> places;
  if (const char* file = std::getenv("QUIRE_NCCL")) places.push_back(file);
  places.push_back(kName);
  if (const char* home = std::getenv("CUDA_HOME")) {
    places.push_back(absl::StrCat(home, "/lib64/", kName));
  }
  places.push_back(absl::StrCat("/usr/local/cuda/lib64/", kName));
  return places;
}

absl::StatusOr<const NcclLibrary*> LoadOnce() {
  void* library = nullptr;
  const std::vector<std::string> places = Places();
  for (const std::string& place : places) {
    library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
  }
  if (library == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        "NCCL is not on this machine (looked for ", absl::StrJoin(places, ", "),
        "); install libnccl2, or let QUIRE_NCCL name the file"));
  }
  static NcclLibrary functions;
#define QUIRE_NCCL_FIND(name)                                      \
  functions.name = reinterpret_cast<decltype(functions.name)>(     \
      dlsym(library, "nccl" #name));                               \
  if (functions.name == nullptr) {                                 \
    return absl::NotFoundError("NCCL has no function nccl" #name); \
  }
  QUIRE_NCCL_FUNCTIONS(QUIRE_NCCL_FIND)
#undef QUIRE_NCCL_FIND
  functions.GetVersion(&functions.version);
  if (functions.version < kOldest) {
    return absl::FailedPreconditionError(
        absl::StrCat("NCCL's version is ", functions.version, "; ", kOldest,
                     " or later is needed"));
  }
  return &functions;
}

}  // namespace

absl::StatusOr<const NcclLibrary*> NcclLibrary::Load() {
  static const auto* const loaded =
      new absl::StatusOr<const NcclLibrary*>(LoadOnce());
  return *loaded;
}

}  // namespace quire
