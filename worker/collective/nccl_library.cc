// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/nccl_library.h"

#include "absl/strings/str_cat.h"
#include "common/gpu_library.h"
#include "common/status_macros.h"

namespace quire {
namespace {

// The first whose non-blocking communicators end when they are told to.
constexpr int kOldest = NCCL_VERSION(2, 18, 1);

absl::StatusOr<const NcclLibrary*> LoadOnce() {
  QUIRE_ASSIGN_OR_RETURN(const GpuLibrary library,
                         GpuLibrary::Open({"NCCL", "libnccl.so.2", "QUIRE_NCCL",
                                           "install libnccl2"}));
  static NcclLibrary functions;
#define QUIRE_NCCL_FIND(name) \
  QUIRE_RETURN_IF_ERROR(library.Bind("nccl" #name, &functions.name));
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
