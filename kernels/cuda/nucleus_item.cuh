// SPDX-License-Identifier: Apache-2.0
//
// How the blocks of a nucleus choice share its rows.
#ifndef KERNELS_CUDA_NUCLEUS_ITEM_CUH_
#define KERNELS_CUDA_NUCLEUS_ITEM_CUH_

#include <cstdint>

#include "kernels/cuda/nucleus_choice.h"
#include "kernels/cuda/nucleus_row.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::nucleus {

using row_scan::ColumnAt;
using sampling::Best;

// How blocks share rows, and what they leave for the last of a row to arrive.
struct Split {
  int32_t num_chunks;
  NucleusPicks picks;
  int32_t* arrivals;  // [num_rows] blocks that are done; 0 between launches
  unsigned long long* bins;  // [num_rows, kNucleusBins]; 0 between launches
  float* largest;            // [num_rows, parts]
  Best* draws;               // [num_rows, parts]
};

// What a block has to do at a time: some chunks of a row.
struct Item {
  int32_t row;    // [0, rows)
  int32_t index;  // in params.rows
  int32_t part, num_parts;
  int32_t begin, end;
};

__device__ __forceinline__ int NumRows(const NucleusParams& params,
                                       const NucleusPicks& picks) {
  return picks.rows == nullptr ? params.num_rows : *picks.count;
}
__device__ __forceinline__ int IndexOf(const NucleusPicks& picks, int row) {
  return picks.rows == nullptr ? row : picks.rows[row];
}

// Deals the parts of all rows to the blocks; all threads of one call `work`
// with each of its.
template <typename Work>
__device__ __forceinline__ void ForEachItem(const NucleusParams& params,
                                            const Split& split,
                                            const Work& work) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int num_rows = NumRows(params, split.picks);
  if (num_rows == 0) return;
  const int num_blocks = static_cast<int>(gridDim.x);
  const int num_parts = max(min(num_blocks / num_rows, split.num_chunks), 1);
  const int each = (split.num_chunks + num_parts - 1) / num_parts;
  for (int i = blockIdx.x; i < num_rows * num_parts; i += num_blocks) {
    const int row = i / num_parts, part = i % num_parts;
    const int begin = min(part * each, split.num_chunks);
    __syncthreads();  // until all are done with the item before
    work(Item{row, IndexOf(split.picks, row), part, num_parts, begin,
              min(begin + each, split.num_chunks)});
  }
}

// Whether this block is its row's last; what others wrote is there then. All
// threads call it.
__device__ __forceinline__ bool ArriveLast(const Split& split, const Item& item,
                                           Shared* shared) {
  if (item.num_parts == 1) return true;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const int before = atomicAdd(&split.arrivals[item.row], 1);
    shared->is_last = before == item.num_parts - 1;
    if (shared->is_last) split.arrivals[item.row] = 0;
    __threadfence();
  }
  __syncthreads();
  return shared->is_last;
}

__device__ __forceinline__ FilteredRow RowOf(const NucleusParams& params,
                                             const Split& split,
                                             const Item& item) {
  return sampling::RowAt(params.logits, params.num_vocab, split.picks.allowed,
                         params.rows[item.index]);
}

__device__ __forceinline__ void LoadChunk(const FilteredRow& row, int chunk,
                                          float (&raw)[kPerThread]) {
  row_scan::LoadChunk(row.row, chunk, raw);
  row_scan::ApplyAllowed(row.row, chunk, raw);
}

}  // namespace quire::nucleus

#endif  // KERNELS_CUDA_NUCLEUS_ITEM_CUH_
