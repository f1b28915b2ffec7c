// SPDX-License-Identifier: Apache-2.0
//
// The stages of a nucleus choice (kernels/nucleus_choice.h): each reads the
// shard once, and begins with what the one before has shown.
#ifndef KERNELS_CUDA_NUCLEUS_CHOICE_H_
#define KERNELS_CUDA_NUCLEUS_CHOICE_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/nucleus_choice.h"

namespace quire {

// Some of a stage's rows.
struct NucleusPicks {
  const int32_t* rows = nullptr;  // [*count] indices of params.rows; null: all
  // In the last stage set to 0. Before kEighths, with which these begin and
  // where params.heard is null, the state of row i of them is states[i].
  int32_t* count = nullptr;
  const uint32_t* allowed = nullptr;  // as in ShapedChoiceParams
};

// Words of `counters` and bytes of `workspace` that one launch needs.
int64_t NucleusCounters(int32_t num_rows);
int64_t NucleusWorkspaceBytes(const NucleusParams& params, int32_t num_sms);

// `counters` is device memory that was set to zeros once; one stream at a time
// uses it and `workspace`. Both begin at a multiple of 16 bytes.
cudaError_t LaunchNucleusCuda(const NucleusParams& params,
                              const NucleusPicks& picks, int32_t* counters,
                              void* workspace, int32_t num_sms,
                              cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_NUCLEUS_CHOICE_H_
