// SPDX-License-Identifier: Apache-2.0
//
// Who computes what of a product of many rows.
#ifndef KERNELS_CUDA_TILE_PLAN_H_
#define KERNELS_CUDA_TILE_PLAN_H_

#include <cstdint>

namespace quire {

// A block's tile: so many rows of the weight, for up to kMaxTileTokens tokens,
// computed in pieces of so many columns.
inline constexpr int32_t kTileRows = 128;
inline constexpr int32_t kTileCols = 64;
inline constexpr int32_t kMaxTileTokens = 256;
// There are kernels for multiples of 16 from here on.
inline constexpr int32_t kMinTileTokens = 128;
inline constexpr int32_t kTileTokensStep = 16;

// The blocks of a cluster compute neighbouring tiles at the same pace, so many
// along the weight's rows by so many along tokens. Those of the same rows share
// what they load of the weight, those of the same tokens what they load of x.
struct ClusterShape {
  int32_t row_tiles;
  int32_t token_tiles;
  constexpr int32_t blocks() const { return row_tiles * token_tiles; }
  friend bool operator==(const ClusterShape&, const ClusterShape&) = default;
};

// A block of a pair loads all of its rows and half of its tokens, one of eight
// half of its rows and a quarter of its tokens. That saves power, by which
// products of many rows are bound. But eights leave multiprocessors over, where
// pairs still fit.
inline constexpr ClusterShape kPairOfTiles = {2, 1};
inline constexpr ClusterShape kEightTiles = {4, 2};

// What runs at once: clusters of a shape and, beside them, so many pairs.
struct TileClusters {
  ClusterShape shape;
  int32_t num;
  int32_t num_pairs;
};

// Tiles of so many tokens run at once, so that weights are shared.
inline constexpr int32_t kTokenTilesTogether = 8;

// One launch's share of a product. All tiles are grouped into units: what a
// cluster of the product's first launch computes at once. Within groups of
// `units_together` along tokens, units of the same rows follow each other, so
// that those that run at once share rows and tokens. A cluster computes a part
// of a unit at a time: in the first launch all of it. Parts are numbered as
// units are, within these. `whole_parts` from `first_part` on are dealt whole,
// in turns; the pieces of those that follow, in the order of (part, k), are cut
// into as many even runs as there are clusters.
struct TilePlan {
  ClusterShape shape;
  int32_t num_clusters;
  int32_t pieces_per_tile;  // along k
  int32_t row_units;
  int32_t token_units;
  int32_t units_together;
  int32_t row_parts;  // of a unit
  int32_t token_parts;
  int32_t first_part;
  int32_t whole_parts;
  int32_t pieces_per_cluster;  // of the run; one more in the first ones
  int32_t longer_clusters;
};

struct TileProblem {
  int64_t m, n, k;
  TileClusters clusters;
  // Whether clusters may add sums of parts of k: then the order of a row's sums
  // depends on the number of tiles.
  bool may_split;
};

struct ProductPlan {
  int32_t tokens;   // of a tile
  TilePlan first;   // of problem.clusters.shape
  TilePlan second;  // pairs beside it; of no clusters: there is no such launch
  int64_t cost;     // of the launch that ends last, in pieces of one token
};

// The plan that is expected to be fastest with tiles of `tokens` tokens.
ProductPlan PlanTiles(const TileProblem& problem, int32_t tokens);

// The one that is expected to be fastest with tiles of any size.
ProductPlan PlanTiles(const TileProblem& problem);

}  // namespace quire

#endif  // KERNELS_CUDA_TILE_PLAN_H_
