// SPDX-License-Identifier: Apache-2.0
//
// What each cluster of a product of many rows computes, piece by piece.
#ifndef KERNELS_CUDA_TILE_WORK_CUH_
#define KERNELS_CUDA_TILE_WORK_CUH_

#include <cstdint>

#include "kernels/cuda/tile_kernel.h"

namespace quire::tile {

__device__ __forceinline__ int32_t ClusterNumber() {
  return static_cast<int32_t>(blockIdx.x) / kTilesOfCluster;
}

__device__ __forceinline__ int32_t RankInCluster() {
  return static_cast<int32_t>(blockIdx.x) % kTilesOfCluster;
}

// Where cluster `cluster`'s run of pieces begins.
__device__ __forceinline__ int32_t RunBegin(const TilePlan& plan,
                                            int32_t cluster) {
  return cluster * plan.pieces_per_cluster + min(cluster, plan.longer_clusters);
}

// A cluster's work, one after another: pieces [begin, end) of a pair of tiles.
// First its run, so that what others wait for is there early.
class Work {
 public:
  __device__ Work(const TilePlan& plan, int32_t cluster)
      : plan_(plan),
        piece_(RunBegin(plan, cluster)),
        last_(RunBegin(plan, cluster + 1)),
        whole_(cluster) {}

  __device__ __forceinline__ bool Next() {
    if (piece_ < last_) {
      const int32_t pair = piece_ / plan_.pieces_per_tile;
      const int32_t first = pair * plan_.pieces_per_tile;
      begin = piece_ - first;
      end = min(last_ - first, plan_.pieces_per_tile);
      tile_end = first + plan_.pieces_per_tile;
      piece_ = first + end;
      Find(plan_.whole_pairs + pair);
      return true;
    }
    if (whole_ >= plan_.whole_pairs) return false;
    begin = 0;
    end = plan_.pieces_per_tile;
    Find(whole_);
    whole_ += plan_.num_clusters;
    return true;
  }

  int32_t row_pair;
  int32_t token_tile;
  int32_t begin;
  int32_t end;
  int32_t tile_end;  // of a run: where the tile's last piece is

 private:
  __device__ __forceinline__ void Find(int32_t pair) {
    const int32_t in_group = kTokenTilesTogether * plan_.row_pairs;
    const int32_t group = pair / in_group;
    const int32_t rest = pair - group * in_group;
    const int32_t width = min(kTokenTilesTogether,
                              plan_.token_tiles - group * kTokenTilesTogether);
    row_pair = rest / width;
    token_tile = group * kTokenTilesTogether + rest - row_pair * width;
  }

  const TilePlan& plan_;
  int32_t piece_;
  const int32_t last_;
  int32_t whole_;
};

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_WORK_CUH_
