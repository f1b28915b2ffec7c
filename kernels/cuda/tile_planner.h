// SPDX-License-Identifier: Apache-2.0
//
// Plans of products of many rows, each made once a step: the layers of a model
// multiply alike, and a plan takes microseconds.
#ifndef KERNELS_CUDA_TILE_PLANNER_H_
#define KERNELS_CUDA_TILE_PLANNER_H_

#include <cstdint>
#include <map>
#include <utility>

#include "kernels/cuda/tile_plan.h"

namespace quire {

// Thread-compatible.
class TilePlanner {
 public:
  TilePlanner(const TileClusters& clusters, bool may_split)
      : clusters_(clusters), may_split_(may_split) {}

  const TileClusters& clusters() const { return clusters_; }

  // PlanTiles() of an [m, n, k] product; valid until one of another m.
  const ProductPlan& PlanOf(int64_t m, int64_t n, int64_t k);

 private:
  const TileClusters clusters_;
  const bool may_split_;
  int64_t m_ = 0;  // that all plans are for: a step's tokens
  std::map<std::pair<int64_t, int64_t>, ProductPlan> plans_;  // by (n, k)
};

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_PLANNER_H_
