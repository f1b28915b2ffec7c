// SPDX-License-Identifier: Apache-2.0
//
// Tokens chosen on the device from rows with top_k, top_p or min_p. No sort of
// the vocabulary: blocks read a row once, which yields the sum over all tokens
// and the largest of them, and the row's last block to arrive sorts those
// and finds where the filters cut. Where they cut further down, rows without
// top_k are left to all blocks of the launches that follow (nucleus_choice.h);
// of others that block goes over the row again: it draws from all tokens that
// may be kept, looks what lies above the one drawn, and draws from those while
// it was not to be kept (as Pope et al. of FlashInfer, "Sorting-Free GPU
// Kernels for LLM Sampling", but for the noise, which is of the token and not
// of the draw).
#ifndef KERNELS_CUDA_CHOOSE_FILTERED_H_
#define KERNELS_CUDA_CHOOSE_FILTERED_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/listed_choice.h"
#include "kernels/nucleus_choice.h"
#include "kernels/shaped_choice.h"

namespace quire {

// Tokens of a row that are listed: as many as top_k, and where that is off as
// many as the nuclei of trained models hold as a rule.
inline constexpr int32_t kNucleusListed = 256;

// What one launch needs: for so many rows.
int64_t ChooseFilteredWorkspaceBytes(int32_t num_rows, int32_t num_vocab,
                                     int32_t num_sms);

// Rows that one launch leaves: their indices of params.rows, in any order, and
// each one's state before NucleusStage::kEighths.
struct LeftRows {
  int32_t* rows;         // [num_filtered]
  int32_t* count;        // 0 before the launch
  NucleusState* states;  // [num_filtered]
};

// Chooses for the filtered rows of `params` but for those in `left`. `arrivals`
// is device memory, a word for each, that was set to zeros once; one stream at
// a time uses it and `workspace`.
cudaError_t LaunchChooseFilteredCuda(const ShapedChoiceParams& params,
                                     const LeftRows& left, int32_t* arrivals,
                                     void* workspace, int32_t num_sms,
                                     cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_CHOOSE_FILTERED_H_
