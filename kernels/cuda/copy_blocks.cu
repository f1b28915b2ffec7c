// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/copy_blocks.h"

namespace quire {
namespace {

// As many as fit beside the other parameters in the 4 KB that every driver
// takes.
constexpr int kMaxPairs = 500;
constexpr int kThreads = 256;
// Vectors a thread has in flight.
constexpr int kUnroll = 4;

struct PairList {
  BlockPair pair[kMaxPairs];
};

// One grid column per pair; its blocks stride over the vectors.
template <typename Vector>
__global__ void __launch_bounds__(kThreads)
    CopyBlocksKernel(const Vector* src, Vector* dst, int64_t vectors,
                     const __grid_constant__ PairList pairs) {
  const BlockPair pair = pairs.pair[blockIdx.y];
  src += pair.src * vectors;
  dst += pair.dst * vectors;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; i + (kUnroll - 1) * step < vectors; i += kUnroll * step) {
    Vector value[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) value[u] = src[i + u * step];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) dst[i + u * step] = value[u];
  }
  for (; i < vectors; i += step) dst[i] = src[i];
}

// Of the H200's 132 multiprocessors: 8 reach 0.91 of a long copy's rate into
// the device, 16 0.92 and 0.94 out of it, all of them no more.
constexpr int kSwapBlocks = 16;
constexpr int kSwapThreads = 512;
// Vectors of a piece of work, as many as its threads have in flight.
constexpr int kSwapUnroll = 2;
constexpr int64_t kSwapPiece = kSwapThreads * kSwapUnroll;

// Thread blocks take turns at the pieces of all pairs.
__global__ void __launch_bounds__(kSwapThreads)
    SwapBlocksKernel(const uint4* src, uint4* dst, int64_t vectors,
                     int32_t num_pairs,
                     const __grid_constant__ PairList pairs) {
  const int64_t pieces = (vectors + kSwapPiece - 1) / kSwapPiece;
  for (int64_t work = blockIdx.x; work < num_pairs * pieces;
       work += gridDim.x) {
    const BlockPair pair = pairs.pair[work / pieces];
    const int64_t at = work % pieces * kSwapPiece + threadIdx.x;
    const uint4* from = src + pair.src * vectors;
    uint4* to = dst + pair.dst * vectors;
    uint4 value[kSwapUnroll];
#pragma unroll
    for (int u = 0; u < kSwapUnroll; ++u) {
      if (at + u * kSwapThreads < vectors)
        value[u] = from[at + u * kSwapThreads];
    }
#pragma unroll
    for (int u = 0; u < kSwapUnroll; ++u) {
      if (at + u * kSwapThreads < vectors) to[at + u * kSwapThreads] = value[u];
    }
  }
}

// The pairs from `begin` on, as many as a launch takes.
int32_t TakePairs(const BlockCopyParams& params, int32_t begin,
                  PairList* list) {
  const int32_t left = params.num_pairs - begin;
  const int32_t count = left < kMaxPairs ? left : kMaxPairs;
  for (int32_t i = 0; i < count; ++i) list->pair[i] = params.pairs[begin + i];
  return count;
}

template <typename Vector>
cudaError_t Launch(const BlockCopyParams& params, cudaStream_t stream) {
  const int64_t vectors = params.block_bytes / sizeof(Vector);
  for (int32_t begin = 0; begin < params.num_pairs; begin += kMaxPairs) {
    PairList list;
    const int32_t count = TakePairs(params, begin, &list);
    // Few pairs are cut finer, so that they too fill the device.
    const int64_t pieces =
        (vectors + kThreads * kUnroll - 1) / (kThreads * kUnroll);
    const int64_t wanted = (2048 + count - 1) / count;
    const int64_t columns = pieces < wanted ? pieces : wanted;
    const dim3 grid(static_cast<unsigned>(columns), count);
    CopyBlocksKernel<Vector><<<grid, kThreads, 0, stream>>>(
        static_cast<const Vector*>(params.src),
        static_cast<Vector*>(params.dst), vectors, list);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t LaunchCopyBlocksCuda(const BlockCopyParams& params,
                                 cudaStream_t stream) {
  if (params.num_pairs <= 0 || params.block_bytes <= 0) return cudaSuccess;
  if (params.block_bytes % sizeof(uint4) == 0) {
    return Launch<uint4>(params, stream);
  }
  return params.block_bytes % sizeof(uint32_t) == 0
             ? Launch<uint32_t>(params, stream)
             : Launch<uint8_t>(params, stream);
}

cudaError_t LaunchSwapBlocksCuda(const BlockCopyParams& params,
                                 cudaStream_t stream) {
  const int64_t vectors = params.block_bytes / int64_t{sizeof(uint4)};
  for (int32_t begin = 0; begin < params.num_pairs; begin += kMaxPairs) {
    PairList list;
    const int32_t count = TakePairs(params, begin, &list);
    SwapBlocksKernel<<<kSwapBlocks, kSwapThreads, 0, stream>>>(
        static_cast<const uint4*>(params.src), static_cast<uint4*>(params.dst),
        vectors, count, list);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace quire
