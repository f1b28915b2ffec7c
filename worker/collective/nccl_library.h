// SPDX-License-Identifier: Apache-2.0
//
// NCCL, found on the host when it is first needed: nothing links to it, so that
// one binary runs on machines with and without it.
#ifndef WORKER_COLLECTIVE_NCCL_LIBRARY_H_
#define WORKER_COLLECTIVE_NCCL_LIBRARY_H_

#include <nccl.h>  // NCCL's own, not the one beside this header

#include "absl/status/statusor.h"

namespace quire {

// The library's functions, by their names less "nccl".
struct NcclLibrary {
#define QUIRE_NCCL_FUNCTIONS(F) \
  F(GetVersion)                 \
  F(GetUniqueId)                \
  F(GetErrorString)             \
  F(GetLastError)               \
  F(CommInitRankConfig)         \
  F(CommSplit)                  \
  F(CommCount)                  \
  F(CommGetAsyncError)          \
  F(CommAbort)                  \
  F(AllGather)                  \
  F(AllReduce)

#define QUIRE_NCCL_MEMBER(name) decltype(&nccl##name) name;
  QUIRE_NCCL_FUNCTIONS(QUIRE_NCCL_MEMBER)
#undef QUIRE_NCCL_MEMBER

  // As NCCL writes it: 22809 for 2.28.9.
  int version;

  // Loads it once a process. NotFound, naming where it was looked for: the file
  // that QUIRE_NCCL names, the loader's own path, CUDA_HOME and
  // /usr/local/cuda. FailedPrecondition if it is older than 2.18.
  static absl::StatusOr<const NcclLibrary*> Load();
};

}  // namespace quire

#endif  // WORKER_COLLECTIVE_NCCL_LIBRARY_H_
