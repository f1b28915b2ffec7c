// SPDX-License-Identifier: Apache-2.0
//
// Who computes what of a product of many rows.
#ifndef KERNELS_CUDA_TILE_PLAN_H_
#define KERNELS_CUDA_TILE_PLAN_H_

#include <cstdint>

#include "kernels/cuda/tile_kernel.h"

namespace quire {

struct TileProblem {
  int64_t m, n, k;
  int32_t max_clusters;
  // Whether clusters may add sums of parts of k: then the order of a row's sums
  // depends on the number of tiles.
  bool may_split;
};

// The plan that is expected to be fastest with tiles of `tokens` tokens.
TilePlan PlanTiles(const TileProblem& problem, int32_t tokens);

// The tokens of a tile for which PlanTiles() is expected to be fastest.
int32_t ChooseTileTokens(const TileProblem& problem);

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_PLAN_H_
