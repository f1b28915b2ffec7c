// SPDX-License-Identifier: Apache-2.0
//
// What each block of a product of many rows computes, piece by piece.
#ifndef KERNELS_CUDA_TILE_WORK_CUH_
#define KERNELS_CUDA_TILE_WORK_CUH_

#include <cstdint>

#include "kernels/cuda/tile_kernel.h"

namespace quire::tile {

// A ClusterShape that is known when a kernel is compiled, and this block's
// place in its cluster. Ranks count rows' tiles first.
template <int kRowTilesOfShape, int kTokenTilesOfShape>
struct Shape {
  static constexpr int kRowTiles = kRowTilesOfShape;
  static constexpr int kTokenTiles = kTokenTilesOfShape;
  static constexpr int kBlocks = kRowTiles * kTokenTiles;

  static __device__ __forceinline__ int32_t Cluster() {
    return static_cast<int32_t>(blockIdx.x) / kBlocks;
  }
  static __device__ __forceinline__ int32_t Rank() {
    return static_cast<int32_t>(blockIdx.x) % kBlocks;
  }
  static __device__ __forceinline__ int32_t RowRank() {
    return Rank() % kRowTiles;
  }
  static __device__ __forceinline__ int32_t TokenRank() {
    return Rank() / kRowTiles;
  }
};

// Where cluster `cluster`'s run of pieces begins.
__device__ __forceinline__ int32_t RunBegin(const TilePlan& plan,
                                            int32_t cluster) {
  return cluster * plan.pieces_per_cluster + min(cluster, plan.longer_clusters);
}

// A block's work, one after another: pieces [begin, end) of a tile. First its
// cluster's run, so that what others wait for is there early.
template <typename Shape>
class Work {
 public:
  __device__ explicit Work(const TilePlan& plan)
      : plan_(plan),
        piece_(RunBegin(plan, Shape::Cluster())),
        last_(RunBegin(plan, Shape::Cluster() + 1)),
        whole_(Shape::Cluster()) {}

  __device__ __forceinline__ bool Next() {
    if (piece_ < last_) {
      const int32_t part = piece_ / plan_.pieces_per_tile;
      const int32_t first = part * plan_.pieces_per_tile;
      begin = piece_ - first;
      end = min(last_ - first, plan_.pieces_per_tile);
      tile_end = first + plan_.pieces_per_tile;
      piece_ = first + end;
      Find(plan_.first_part + plan_.whole_parts + part);
      return true;
    }
    if (whole_ >= plan_.whole_parts) return false;
    begin = 0;
    end = plan_.pieces_per_tile;
    Find(plan_.first_part + whole_);
    whole_ += plan_.num_clusters;
    return true;
  }

  int32_t row_tile;
  int32_t token_tile;
  int32_t begin;
  int32_t end;
  int32_t tile_end;  // of a run: where the tile's last piece is

 private:
  __device__ __forceinline__ void Find(int32_t part) {
    const int32_t parts = plan_.row_parts * plan_.token_parts;
    const int32_t unit = part / parts;
    const int32_t in_unit = part - unit * parts;
    const int32_t row_part = in_unit / plan_.token_parts;
    const int32_t token_part = in_unit - row_part * plan_.token_parts;
    const int32_t in_group = plan_.units_together * plan_.row_units;
    const int32_t group = unit / in_group;
    const int32_t rest = unit - group * in_group;
    const int32_t width = min(plan_.units_together,
                              plan_.token_units - group * plan_.units_together);
    const int32_t row_unit = rest / width;
    const int32_t token_unit =
        group * plan_.units_together + rest - row_unit * width;
    row_tile = (row_unit * plan_.row_parts + row_part) * Shape::kRowTiles +
               Shape::RowRank();
    token_tile =
        (token_unit * plan_.token_parts + token_part) * Shape::kTokenTiles +
        Shape::TokenRank();
  }

  const TilePlan& plan_;
  int32_t piece_;
  const int32_t last_;
  int32_t whole_;
};

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_WORK_CUH_
