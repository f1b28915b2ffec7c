// SPDX-License-Identifier: Apache-2.0
//
// From a warp's accumulators of y^T to rows of y: transposed in registers, 16
// bytes a lane, so that a tile's sums need no shared memory on their way out
// and warps do not wait for each other.
#ifndef KERNELS_CUDA_STREAM_STORE_CUH_
#define KERNELS_CUDA_STREAM_STORE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/fragment_rows.cuh"
#include "kernels/cuda/peer_inbox.cuh"
#include "kernels/cuda/stream_kernel.h"

namespace quire::stream {

using fragment::Pack;
using fragment::SiluMul;
using fragment::TransposeFour;
using fragment::Unpack;

// Of an 8 x 8 matrix, a lane's two elements of row l / 4 become two of its
// transpose's.
__device__ __forceinline__ uint32_t TransposeEight(uint32_t word) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
               : "=r"(out)
               : "r"(word));
  return out;
}

// Eight neighbours of a row of y, of `groups` of eight tokens: the lanes of one
// row of a fragment, l / 4, hold one token's.
__device__ __forceinline__ uint4 RowsOf(uint32_t (&fragments)[4]) {
#pragma unroll
  for (uint32_t& word : fragments) word = TransposeEight(word);
  TransposeFour(fragments);
  return make_uint4(fragments[0], fragments[1], fragments[2], fragments[3]);
}

__device__ __forceinline__ void FragmentsOf(uint4 rows,
                                            uint32_t (&fragments)[4]) {
  fragments[0] = rows.x;
  fragments[1] = rows.y;
  fragments[2] = rows.z;
  fragments[3] = rows.w;
  TransposeFour(fragments);
#pragma unroll
  for (uint32_t& word : fragments) word = TransposeEight(word);
}

// Sixteen rows from `first_row` on. Four rows of eight floats fill four sectors
// as they are.
template <int kTokens>
__device__ __forceinline__ void StoreFloats(const StreamGemmArgs& args,
                                            int32_t first_row,
                                            const float (&sums)[kTokens / 2]) {
  const int lane = threadIdx.x % 32;
  float* const y = static_cast<float*>(args.y);
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) {
    const int32_t row = first_row + lane / 4 + i / 2 % 2 * 8;
    const int32_t token = i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (row < args.n && token < args.m)
      y[token * args.y_stride + row] = sums[i];
  }
}

// Where a lane's eight rows of y from `first_row` on are, of one token of the
// pair of groups of eight; null beyond the ends.
__device__ __forceinline__ uint4* RowsPlace(const StreamGemmArgs& args,
                                            int32_t first_row, int pair) {
  const int lane = threadIdx.x % 32;
  const int32_t row = first_row + lane % 2 * 8;
  const int32_t token = pair * 16 + lane % 4 / 2 * 8 + lane / 4;
  if (row >= args.n || token >= args.m) return nullptr;
  return reinterpret_cast<uint4*>(static_cast<__nv_bfloat16*>(args.y) +
                                  token * args.y_stride + row);
}

__device__ __forceinline__ int32_t FirstRowOf(int32_t tile) {
  return tile * kStreamTileRows + static_cast<int32_t>(threadIdx.x) / 32 * 16;
}

// What a product is added to: a lane's part, which is on its way while the
// product is computed. And whose turn it is to be sent to peers.
template <int kTokens>
struct OldRows {
  static constexpr int kPairs = (kTokens + 15) / 16;
  uint4 rows[kPairs];
  uint32_t turn;

  __device__ __forceinline__ void Load(const StreamGemmArgs& args,
                                       int32_t tile) {
    if (args.peers.world_size > 1) turn = peer::LoadTurn(args.peers);
    if (!args.adds) return;
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      const uint4* from = RowsPlace(args, FirstRowOf(tile), pair);
      rows[pair] = from == nullptr ? make_uint4(0, 0, 0, 0) : *from;
    }
  }
};

// Two groups of eight tokens at a time, by two groups of eight rows.
template <int kTokens>
__device__ __forceinline__ void StoreRows(const StreamGemmArgs& args,
                                          int32_t first_row,
                                          float (&sums)[kTokens / 2],
                                          const OldRows<kTokens>& old) {
#pragma unroll
  for (int pair = 0; pair < OldRows<kTokens>::kPairs; ++pair) {
    uint32_t words[4] = {};
    if (args.adds) FragmentsOf(old.rows[pair], words);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = pair * 8 + i * 2;  // sums of group i / 2, rows i % 2
      if (at >= kTokens / 2) continue;
      float2 v = make_float2(sums[at], sums[at + 1]);
      if (args.adds) {
        const float2 before = Unpack(words[i]);
        v.x += before.x;
        v.y += before.y;
      }
      words[i] = Pack(v.x, v.y);
    }
    const uint4 rows = RowsOf(words);
    uint4* const to = RowsPlace(args, first_row, pair);
    if (to == nullptr) continue;
    *to = rows;
    if (args.peers.world_size > 1) {
      peer::SendAhead(args.peers, old.turn, to - static_cast<uint4*>(args.y),
                      rows);
    }
  }
}

// Of every sixteen rows the first eight are gates, the others what they let
// through.
template <int kTokens>
__device__ __forceinline__ void StoreGated(const StreamGemmArgs& args,
                                           int32_t first_row,
                                           const float (&sums)[kTokens / 2]) {
  constexpr int kGroups = kTokens / 8;
  const int lane = threadIdx.x % 32;
  const int32_t column = first_row / 2;
  __nv_bfloat16* const y = static_cast<__nv_bfloat16*>(args.y);
#pragma unroll
  for (int group = 0; group < kGroups; group += 4) {
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (group + i >= kGroups) continue;
      const int at = (group + i) * 4;
      words[i] = Pack(SiluMul(sums[at], sums[at + 2]),
                      SiluMul(sums[at + 1], sums[at + 3]));
    }
    const uint4 rows = RowsOf(words);
    const int32_t token = (group + lane % 4) * 8 + lane / 4;
    if (first_row < args.n && token < args.m) {
      *reinterpret_cast<uint4*>(y + token * args.y_stride + column) = rows;
    }
  }
}

template <int kTokens>
__device__ __forceinline__ void AddBias(const StreamGemmArgs& args,
                                        int32_t first_row,
                                        float (&sums)[kTokens / 2]) {
  if (args.bias == nullptr) return;
  const auto* bias = static_cast<const __nv_bfloat16*>(args.bias);
  const int32_t row = first_row + threadIdx.x % 32 / 4;
  const float low = row < args.n ? __bfloat162float(bias[row]) : 0.0f;
  const float high = row + 8 < args.n ? __bfloat162float(bias[row + 8]) : 0.0f;
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) sums[i] += i / 2 % 2 ? high : low;
}

// A tile's sums, as `wgmma` leaves them in a consumer's registers, into y.
// `old` is loaded.
template <int kTokens>
__device__ __forceinline__ void StoreTile(const StreamGemmArgs& args,
                                          int32_t tile,
                                          float (&sums)[kTokens / 2],
                                          const OldRows<kTokens>& old) {
  const int32_t first_row = FirstRowOf(tile);
  AddBias<kTokens>(args, first_row, sums);
  if (args.y_is_float) {
    StoreFloats<kTokens>(args, first_row, sums);
  } else if (args.is_gated) {
    StoreGated<kTokens>(args, first_row, sums);
  } else {
    StoreRows<kTokens>(args, first_row, sums, old);
  }
}

}  // namespace quire::stream

#endif  // KERNELS_CUDA_STREAM_STORE_CUH_
