// SPDX-License-Identifier: Apache-2.0
//
// Which rows a thread block of a product over experts computes. Experts have
// as many rows as they have, so the tiles are found on the device: those of
// expert 0 come first, then those of expert 1 ...
#ifndef KERNELS_CUDA_MOE_TILE_CUH_
#define KERNELS_CUDA_MOE_TILE_CUH_

#include <cstdint>

#include "cuda_runtime.h"

namespace quire::cuda {

struct MoeTile {
  int expert = -1;  // -1: there is no such tile
  int first_row = 0;
  int end_row = 0;  // of the expert
};

// Tiles that any rows may make, of which `rows` come from `experts`.
inline int64_t MaxMoeTiles(int64_t rows, int64_t experts, int64_t tile_rows) {
  const int64_t most = rows / tile_rows + experts;
  return rows < most ? rows : most;
}

// Every warp calls it, and gets the same answer.
template <int kTileRows>
__device__ __forceinline__ MoeTile FindMoeTile(const int32_t* expert_start,
                                               int num_experts, int tile) {
  const int lane = threadIdx.x % 32;
  for (int base = 0; base < num_experts; base += 32) {
    const int expert = base + lane;
    int begin = 0, end = 0;
    if (expert < num_experts) {
      begin = expert_start[expert];
      end = expert_start[expert + 1];
    }
    const int tiles = (end - begin + kTileRows - 1) / kTileRows;
    int upto = tiles;  // those of this expert and of those before it
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(~0u, upto, offset);
      if (lane >= offset) upto += other;
    }
    const unsigned mask = __ballot_sync(~0u, upto > tile);
    if (mask == 0) {
      tile -= __shfl_sync(~0u, upto, 31);
      continue;
    }
    const int source = __ffs(mask) - 1;
    const int nth = tile - __shfl_sync(~0u, upto - tiles, source);
    MoeTile found;
    found.expert = base + source;
    found.first_row = __shfl_sync(~0u, begin, source) + nth * kTileRows;
    found.end_row = __shfl_sync(~0u, end, source);
    return found;
  }
  return MoeTile();
}

}  // namespace quire::cuda

#endif  // KERNELS_CUDA_MOE_TILE_CUH_
