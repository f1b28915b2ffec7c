// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_plan.h"

#include <algorithm>

namespace quire {
namespace {

int32_t CeilDiv(int64_t a, int64_t b) {
  return static_cast<int32_t>((a + b - 1) / b);
}

// In pieces of one token, as measured on an H200: to begin and to store a tile
// of one token; to leave sums and to add them.
constexpr int64_t kTilePieces = 3;
constexpr int64_t kSplitPieces = 16 * 256;
// What a piece of the weight costs, as that of so many tokens.
constexpr int64_t kWeightTokens = 24;
// Clusters that have a part of a tile at most: one adds what all have.
constexpr int32_t kMaxParts = 4;

// Of the cluster with the most work.
int64_t CostOf(const TilePlan& plan, int32_t tokens) {
  const int64_t width = tokens + kWeightTokens;
  const int64_t turns = CeilDiv(plan.whole_pairs, plan.num_clusters);
  const int64_t cost = turns * (plan.pieces_per_tile + kTilePieces) * width;
  const int64_t run = plan.pieces_per_cluster + (plan.longer_clusters > 0);
  if (run == 0) return cost;
  return cost + (run + kTilePieces) * width + kSplitPieces;
}

// The last turn in even runs, with the one before it where it alone would make
// many parts of each tile.
TilePlan Split(TilePlan plan, int32_t pairs, int32_t max_clusters) {
  plan.num_clusters = std::min(max_clusters, pairs * kMaxParts);
  plan.whole_pairs = pairs / max_clusters * max_clusters;
  if (plan.whole_pairs > 0 &&
      (pairs - plan.whole_pairs) * kMaxParts < max_clusters) {
    plan.whole_pairs -= max_clusters;
  }
  const int32_t pieces = (pairs - plan.whole_pairs) * plan.pieces_per_tile;
  plan.num_clusters = std::min(plan.num_clusters, pieces);
  plan.pieces_per_cluster = pieces / plan.num_clusters;
  plan.longer_clusters = pieces % plan.num_clusters;
  return plan;
}

}  // namespace

TilePlan PlanTiles(const TileProblem& problem, int32_t tokens) {
  TilePlan whole = {};
  whole.pieces_per_tile = CeilDiv(problem.k, kTileCols);
  whole.token_tiles = CeilDiv(problem.m, tokens);
  whole.row_pairs = CeilDiv(problem.n, kTileRows * kTilesOfCluster);
  const int32_t pairs = whole.token_tiles * whole.row_pairs;
  whole.num_clusters = std::min(problem.max_clusters, pairs);
  whole.whole_pairs = pairs;
  if (!problem.may_split || pairs % problem.max_clusters == 0) return whole;
  const TilePlan split = Split(whole, pairs, problem.max_clusters);
  return CostOf(split, tokens) < CostOf(whole, tokens) ? split : whole;
}

int32_t ChooseTileTokens(const TileProblem& problem) {
  int32_t best = kMaxTileTokens;
  int64_t best_cost = 0;
  for (int32_t tokens = kMaxTileTokens; tokens >= kMinTileTokens;
       tokens -= kTileTokensStep) {
    const int64_t cost = CostOf(PlanTiles(problem, tokens), tokens);
    if (best_cost == 0 || cost < best_cost) {
      best = tokens;
      best_cost = cost;
    }
  }
  return best;
}

}  // namespace quire
