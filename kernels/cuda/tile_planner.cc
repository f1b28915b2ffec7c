// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_planner.h"

namespace quire {

const ProductPlan& TilePlanner::PlanOf(int64_t m, int64_t n, int64_t k) {
  if (m != m_) plans_.clear();
  m_ = m;
  const auto [plan, is_new] = plans_.try_emplace({n, k});
  if (is_new) {
    plan->second = PlanTiles({.m = m,
                              .n = n,
                              .k = k,
                              .clusters = clusters_,
                              .may_split = may_split_});
  }
  return plan->second;
}

}  // namespace quire
