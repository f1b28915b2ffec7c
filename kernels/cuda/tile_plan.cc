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
// The second launch begins so many pieces later: 2 to 4 us.
constexpr int64_t kLagPieces = 4;
// Around an even share for the second launch, so many more or less are tried:
// where turns end decides.
constexpr int32_t kSharesTried = 4;

// Of the cluster with the most work.
int64_t CostOf(const TilePlan& plan, int32_t tokens) {
  const int64_t width = tokens + kWeightTokens;
  const int64_t turns = CeilDiv(plan.whole_parts, plan.num_clusters);
  const int64_t cost = turns * (plan.pieces_per_tile + kTilePieces) * width;
  const int64_t run = plan.pieces_per_cluster + (plan.longer_clusters > 0);
  if (run == 0) return cost;
  return cost + (run + kTilePieces) * width + kSplitPieces;
}

// The last turn in even runs, with the one before it where it alone would make
// many parts of each tile.
TilePlan Split(TilePlan plan, int32_t parts, int32_t max_clusters) {
  plan.num_clusters = std::min(max_clusters, parts * kMaxParts);
  plan.whole_parts = parts / max_clusters * max_clusters;
  if (plan.whole_parts > 0 &&
      (parts - plan.whole_parts) * kMaxParts < max_clusters) {
    plan.whole_parts -= max_clusters;
  }
  const int32_t pieces = (parts - plan.whole_parts) * plan.pieces_per_tile;
  plan.num_clusters = std::min(plan.num_clusters, pieces);
  plan.pieces_per_cluster = pieces / plan.num_clusters;
  plan.longer_clusters = pieces % plan.num_clusters;
  return plan;
}

// `parts` from `first_part` on, to clusters as in `launch`.
TilePlan Deal(const TilePlan& launch, int32_t first_part, int32_t parts,
              int32_t max_clusters, bool may_split, int32_t tokens) {
  TilePlan whole = launch;
  whole.num_clusters = std::min(max_clusters, parts);
  whole.first_part = first_part;
  whole.whole_parts = parts;
  if (!may_split || parts % max_clusters == 0) return whole;
  const TilePlan split = Split(whole, parts, max_clusters);
  return CostOf(split, tokens) < CostOf(whole, tokens) ? split : whole;
}

// How the product is cut into units and these into parts, nothing dealt yet.
ProductPlan Cut(const TileProblem& problem, int32_t tokens) {
  const ClusterShape& unit = problem.clusters.shape;
  TilePlan launch = {};
  launch.pieces_per_tile = CeilDiv(problem.k, kTileCols);
  launch.row_units = CeilDiv(problem.n, kTileRows * unit.row_tiles);
  launch.token_units = CeilDiv(problem.m, int64_t{tokens} * unit.token_tiles);
  launch.units_together = kTokenTilesTogether / unit.token_tiles;
  ProductPlan plan = {tokens, launch, launch, /*cost=*/0};
  for (TilePlan* part : {&plan.first, &plan.second}) {
    part->shape = part == &plan.first ? unit : kPairOfTiles;
    part->row_parts = unit.row_tiles / part->shape.row_tiles;
    part->token_parts = unit.token_tiles / part->shape.token_tiles;
  }
  return plan;
}

// The first `units` to the first launch, the others to the second.
ProductPlan Share(const TileProblem& problem, const ProductPlan& cut,
                  int32_t units) {
  const TileClusters& clusters = problem.clusters;
  ProductPlan plan = cut;
  plan.first = Deal(cut.first, /*first_part=*/0, units, clusters.num,
                    problem.may_split, cut.tokens);
  plan.cost = CostOf(plan.first, cut.tokens);
  const int32_t left = cut.first.row_units * cut.first.token_units - units;
  if (left == 0) return plan;
  const int32_t parts = cut.second.row_parts * cut.second.token_parts;
  plan.second = Deal(cut.second, units * parts, left * parts,
                     clusters.num_pairs, problem.may_split, cut.tokens);
  plan.cost =
      std::max(plan.cost, CostOf(plan.second, cut.tokens) +
                              kLagPieces * (cut.tokens + kWeightTokens));
  return plan;
}

}  // namespace

ProductPlan PlanTiles(const TileProblem& problem, int32_t tokens) {
  const TileClusters& clusters = problem.clusters;
  const ProductPlan cut = Cut(problem, tokens);
  const int32_t units = cut.first.row_units * cut.first.token_units;
  if (clusters.num_pairs == 0) return Share(problem, cut, units);
  const int64_t blocks = int64_t{clusters.num} * clusters.shape.blocks();
  const int32_t even = static_cast<int32_t>(
      units * blocks / (blocks + clusters.num_pairs * kPairOfTiles.blocks()));
  const int32_t most = std::min(units, even + kSharesTried);
  ProductPlan best = Share(problem, cut, most);
  for (int32_t count = most - 1; count >= std::max(1, even - kSharesTried);
       --count) {
    const ProductPlan plan = Share(problem, cut, count);
    if (plan.cost < best.cost) best = plan;
  }
  return best;
}

ProductPlan PlanTiles(const TileProblem& problem) {
  ProductPlan best = PlanTiles(problem, kMaxTileTokens);
  for (int32_t tokens = kMaxTileTokens - kTileTokensStep;
       tokens >= kMinTileTokens; tokens -= kTileTokensStep) {
    const ProductPlan plan = PlanTiles(problem, tokens);
    if (plan.cost < best.cost) best = plan;
  }
  return best;
}

}  // namespace quire
