// SPDX-License-Identifier: Apache-2.0
//
// Who computes what of a product of many rows.
#ifndef KERNELS_CUDA_TILE_PLAN_H_
#define KERNELS_CUDA_TILE_PLAN_H_

#include <cstdint>

namespace quire {

// A block's tile: so many rows of the weight, for up to kMaxTileTokens tokens,
// computed in pieces of so many columns. Two blocks, a cluster, compute tiles
// one below the other at the same pace and share what they load of x.
inline constexpr int32_t kTileRows = 128;
inline constexpr int32_t kTileCols = 64;
inline constexpr int32_t kTilesOfCluster = 2;
inline constexpr int32_t kMaxTileTokens = 256;
// There are kernels for multiples of 16 from here on.
inline constexpr int32_t kMinTileTokens = 128;
inline constexpr int32_t kTileTokensStep = 16;

// Pairs of tiles are numbered so that those that run at once share weights and
// tokens: by rows of the weight first, within kTokenTilesTogether of tokens.
inline constexpr int32_t kTokenTilesTogether = 8;

// The first `whole_pairs` are dealt whole, in turns; the pieces of the others,
// in the order of (pair, k), are cut into as many even runs as there are
// clusters.
struct TilePlan {
  int32_t num_clusters;
  int32_t pieces_per_tile;  // along k
  int32_t token_tiles;
  int32_t row_pairs;  // of the weight
  int32_t whole_pairs;
  int32_t pieces_per_cluster;  // of the run; one more in the first ones
  int32_t longer_clusters;
};

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
