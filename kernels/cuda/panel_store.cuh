// SPDX-License-Identifier: Apache-2.0
//
// From a warp's accumulators of y to rows of y, of four groups of eight rows of
// the weight at a time: element 4 g + 2 h + j of a lane is of token
// 16 warp + lane / 4 + 8 h and row 8 g + 2 (lane % 4) + j.
#ifndef KERNELS_CUDA_PANEL_STORE_CUH_
#define KERNELS_CUDA_PANEL_STORE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/fragment_rows.cuh"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/panel_norm.cuh"
#include "kernels/cuda/peer_inbox.cuh"

namespace quire::panel {

inline constexpr int kChunkRows = 32;

// Where a chunk is: from which row of the weight on, of a block whose tokens
// begin at `first_token`.
struct Place {
  int32_t first_row;
  int32_t first_token;
};

// The first of the two tokens of a lane, eight apart.
__device__ __forceinline__ int32_t FirstTokenOf(const Place& place) {
  return place.first_token + static_cast<int32_t>(threadIdx.x) / 32 * 16 +
         static_cast<int32_t>(threadIdx.x) % 32 / 4;
}

// The first of a lane's eight neighbours of a row of y.
__device__ __forceinline__ int32_t FirstRowOf(const Place& place) {
  return place.first_row + static_cast<int32_t>(threadIdx.x % 4) * 8;
}

// Where they are, of the token `h` of its two; null beyond the ends.
__device__ __forceinline__ uint4* RowPlace(const PanelGemmArgs& args,
                                           const Place& place, int h) {
  const int32_t row = FirstRowOf(place);
  const int32_t token = FirstTokenOf(place) + 8 * h;
  if (row >= args.n || token >= args.m) return nullptr;
  return reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(args.y) +
                                  token * args.y_stride + row);
}

// What a chunk is added to: a lane's part, loaded before the chunk is there.
// And whose turn it is to be sent to peers, if there are any, or the lane's
// part of the weight of the norm that follows.
template <bool kFolds>
struct OldChunk {
  uint32_t turn;
  uint4 rows[2];
  uint4 norm_weight;

  __device__ __forceinline__ explicit OldChunk(uint32_t turn) : turn(turn) {}

  __device__ __forceinline__ void Load(const PanelGemmArgs& args,
                                       const Place& place) {
    if constexpr (kFolds) LoadNormWeight(args, place);
    if (!args.adds) return;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint4* from = RowPlace(args, place, h);
      rows[h] = from == nullptr ? make_uint4(0, 0, 0, 0) : *from;
    }
  }

 private:
  __device__ __forceinline__ void LoadNormWeight(const PanelGemmArgs& args,
                                                 const Place& place) {
    const int32_t row = FirstRowOf(place);
    if (args.norm_after.squares == nullptr || row >= args.n) return;
    norm_weight = *reinterpret_cast<const uint4*>(
        static_cast<const __nv_bfloat16*>(args.norm_after.weight) + row);
  }
};

__device__ __forceinline__ void AddBias(const PanelGemmArgs& args,
                                        const Place& place, float (&sums)[16]) {
  if (args.bias == nullptr) return;
  const auto* bias = static_cast<const __nv_bfloat16*>(args.bias);
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    const int32_t row = place.first_row + g * 8 + threadIdx.x % 4 * 2;
    if (row >= args.n) continue;
    const float2 v =
        fragment::Unpack(*reinterpret_cast<const uint32_t*>(bias + row));
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      sums[g * 4 + h * 2] += v.x;
      sums[g * 4 + h * 2 + 1] += v.y;
    }
  }
}

__device__ __forceinline__ void StoreFloats(const PanelGemmArgs& args,
                                            const Place& place,
                                            const float (&sums)[16]) {
  float* const y = static_cast<float*>(args.y);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int32_t row = place.first_row + i / 2 * 8 + threadIdx.x % 4 * 2;
    const int32_t token = FirstTokenOf(place) + i % 2 * 8;
    if (row >= args.n || token >= args.m) continue;
    *reinterpret_cast<float2*>(y + token * args.y_stride + row) =
        make_float2(sums[i * 2], sums[i * 2 + 1]);
  }
}

// Of every sixteen rows the first eight are gates, the others what they let
// through.
__device__ __forceinline__ void StoreGated(const PanelGemmArgs& args,
                                           const Place& place,
                                           const float (&sums)[16]) {
  uint32_t words[4];  // by token, then column
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int at = i % 2 * 8 + i / 2 * 2;
    words[i] = fragment::Pack(fragment::SiluMul(sums[at], sums[at + 4]),
                              fragment::SiluMul(sums[at + 1], sums[at + 5]));
  }
  fragment::TransposeFour(words);
  const int lane = threadIdx.x % 4;
  const int32_t row = place.first_row + lane % 2 * 16;
  const int32_t token = FirstTokenOf(place) + lane / 2 * 8;
  if (row >= args.n || token >= args.m) return;
  auto* const y = static_cast<__nv_bfloat16*>(args.y);
  *reinterpret_cast<uint4*>(y + token * args.y_stride + row / 2) =
      make_uint4(words[0], words[1], words[2], words[3]);
}

// Of a lane's eight neighbours at `place_in_y`, or null, of token `h`.
__device__ __forceinline__ void StoreForNorm(const PanelGemmArgs& args,
                                             const Place& place, int h,
                                             const uint4* place_in_y,
                                             const uint4& row,
                                             const uint4& weight) {
  const PanelNormAfter& norm = args.norm_after;
  uint4* to = nullptr;
  if (place_in_y != nullptr) {
    to = static_cast<uint4*>(norm.out) +
         (place_in_y - static_cast<const uint4*>(args.y));
  }
  float* squares = nullptr;
  const int32_t token = FirstTokenOf(place) + 8 * h;
  if (place.first_row < args.n && token < args.m) {
    static_assert(kChunkRows == FoldedNorm::kColumns);
    squares = norm.squares +
              place.first_row / kChunkRows * FoldedNorm::kMaxRows + token;
  }
  ScaleAndSquare(row, weight, to, squares);
}

template <bool kFolds>
__device__ __forceinline__ void StoreRows(const PanelGemmArgs& args,
                                          const Place& place,
                                          const float (&sums)[16],
                                          const OldChunk<kFolds>& old) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    uint32_t words[4] = {};
    if (args.adds) {
      words[0] = old.rows[h].x;
      words[1] = old.rows[h].y;
      words[2] = old.rows[h].z;
      words[3] = old.rows[h].w;
      fragment::TransposeFour(words);
    }
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      float2 v = make_float2(sums[g * 4 + h * 2], sums[g * 4 + h * 2 + 1]);
      if (args.adds) {
        const float2 before = fragment::Unpack(words[g]);
        v.x += before.x;
        v.y += before.y;
      }
      words[g] = fragment::Pack(v.x, v.y);
    }
    fragment::TransposeFour(words);
    uint4* const to = RowPlace(args, place, h);
    const uint4 row = make_uint4(words[0], words[1], words[2], words[3]);
    if constexpr (kFolds) {
      if (args.norm_after.squares != nullptr) {
        StoreForNorm(args, place, h, to, row, old.norm_weight);
      }
    }
    if (to == nullptr) continue;
    *to = row;
    if constexpr (!kFolds) {
      if (args.peers.world_size > 1) {
        peer::SendAhead(args.peers, old.turn, to - static_cast<uint4*>(args.y),
                        row);
      }
    }
  }
}

// A chunk's sums into y; `old` is loaded.
template <bool kFolds>
__device__ __forceinline__ void StoreChunk(const PanelGemmArgs& args,
                                           const Place& place,
                                           float (&sums)[16],
                                           const OldChunk<kFolds>& old) {
  AddBias(args, place, sums);
  if (args.y_is_float) {
    StoreFloats(args, place, sums);
  } else if (args.is_gated) {
    StoreGated(args, place, sums);
  } else {
    StoreRows(args, place, sums, old);
  }
}

}  // namespace quire::panel

#endif  // KERNELS_CUDA_PANEL_STORE_CUH_
