// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/attention_async.cuh"
#include "kernels/cuda/moe_gemm.h"
#include "kernels/cuda/moe_tile.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;
using attention::CommitCopies;
using attention::CopyAsync;
using attention::SharedAddress;
using attention::WaitForCopies;

// Elements of k in a stage: rows of 128 bytes, in eight chunks of 16.
constexpr int kDepth = 64;
constexpr int kChunks = 8;
constexpr int kRowBytes = 128;

// How a block's tile is shared: a warp computes kRowTiles x 16 rows and 32
// columns.
template <int kRowWarps_, int kRowTiles_, int kStages_>
struct Shape {
  static constexpr int kRowWarps = kRowWarps_;
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kStages = kStages_;
  static constexpr int kColumnWarps = 4;
  static constexpr int kRows = kRowWarps * kRowTiles * 16;
  static constexpr int kColumns = kColumnWarps * 32;
  static constexpr int kThreads = kRowWarps * kColumnWarps * 32;
  static constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

// Few rows for each expert: time goes into reading weights, so that three
// blocks of a multiprocessor have 48 KB of them on their way each.
using FewRows = Shape<1, 1, 4>;
using SomeRows = Shape<1, 4, 4>;
using ManyRows = Shape<2, 4, 3>;

// Chunks of a row are exchanged by its number, so that eight rows' chunks of
// the same column lie in different banks.
__device__ __forceinline__ uint32_t ChunkAt(uint32_t tile, int row, int chunk) {
  return tile + row * kRowBytes + ((chunk ^ (row & 7)) << 4);
}

__device__ __forceinline__ void LoadMatrices(uint32_t address,
                                             uint32_t (&r)[4]) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address));
}

// c [16, 8] += a [16, 16] b [16, 8].
__device__ __forceinline__ void Multiply(float (&c)[4], const uint32_t (&a)[4],
                                         uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A thread's part of copying a tile: one chunk of every kStep-th row.
template <int kRows, int kThreads>
struct TileCopy {
  static constexpr int kStep = kThreads / kChunks;
  static constexpr int kCount = (kRows + kStep - 1) / kStep;
  const Bf16* rows[kCount];  // null: zeros
  int row;
  int chunk;

  // `address(i)`: the first element of row i, or null.
  template <typename Address>
  __device__ __forceinline__ explicit TileCopy(const Address& address)
      : row(threadIdx.x / kChunks), chunk(threadIdx.x % kChunks) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) rows[i] = address(row + i * kStep);
  }

  __device__ __forceinline__ void Run(uint32_t tile, int64_t depth, int64_t k,
                                      const Bf16* anything) const {
    const int64_t column = depth + chunk * 8;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (kRows % kStep != 0 && row + i * kStep >= kRows) continue;
      const bool valid = rows[i] != nullptr && column < k;
      CopyAsync(ChunkAt(tile, row + i * kStep, chunk),
                valid ? rows[i] + column : anything, valid);
    }
  }
};

// One stage's products.
template <typename S>
__device__ __forceinline__ void MultiplyStage(
    uint32_t x_tile, uint32_t w_tile, int first_row, int first_column,
    float (&sums)[S::kRowTiles][4][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t b[2][4];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = first_column + j * 16 + (lane & 7) + ((lane >> 4) << 3);
      LoadMatrices(ChunkAt(w_tile, row, step * 2 + ((lane >> 3) & 1)), b[j]);
    }
#pragma unroll
    for (int i = 0; i < S::kRowTiles; ++i) {
      uint32_t a[4];
      const int row = first_row + i * 16 + (lane & 15);
      LoadMatrices(ChunkAt(x_tile, row, step * 2 + (lane >> 4)), a);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        Multiply(sums[i][2 * j], a, b[j][0], b[j][1]);
        Multiply(sums[i][2 * j + 1], a, b[j][2], b[j][3]);
      }
    }
  }
}

template <typename Y>
__device__ __forceinline__ void StorePair(float a, float b, int64_t column,
                                          int64_t n, Y* row) {
  if (column + 1 < n && n % 2 == 0) {
    if constexpr (sizeof(Y) == 4) {
      *reinterpret_cast<float2*>(row + column) = make_float2(a, b);
    } else {
      *reinterpret_cast<__nv_bfloat162*>(row + column) =
          __floats2bfloat162_rn(a, b);
    }
    return;
  }
  if (column < n) row[column] = cuda::FromFloat<Y>(a);
  if (column + 1 < n) row[column + 1] = cuda::FromFloat<Y>(b);
}

// blockIdx.x: tile of rows, so that blocks that run together share weights;
// blockIdx.y: tile of columns.
template <typename S, typename Y>
__global__ void __launch_bounds__(S::kThreads)
    MoeMmaKernel(const __grid_constant__ MoeGemmParams p) {
  extern __shared__ __align__(128) uint8_t shared[];
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const cuda::MoeTile tile =
      cuda::FindMoeTile<S::kRows>(p.expert_start, p.num_experts, blockIdx.x);
  if (tile.expert < 0) return;
  const Bf16* x = static_cast<const Bf16*>(p.x);
  const Bf16* w =
      static_cast<const Bf16*>(p.w) + int64_t{tile.expert} * p.n * p.k;
  const int64_t first_n = int64_t{blockIdx.y} * S::kColumns;
  const TileCopy<S::kRows, S::kThreads> x_copy([&](int i) -> const Bf16* {
    const int row = tile.first_row + i;
    if (i >= S::kRows || row >= tile.end_row) return nullptr;
    return x + (p.row_tokens == nullptr ? row : p.row_tokens[row]) * p.k;
  });
  const TileCopy<S::kColumns, S::kThreads> w_copy([&](int i) -> const Bf16* {
    return first_n + i < p.n ? w + (first_n + i) * p.k : nullptr;
  });
  const uint32_t base = SharedAddress(shared);
  const int num_stages = static_cast<int>((p.k + kDepth - 1) / kDepth);
  const auto copy = [&](int stage) {
    if (stage < num_stages) {
      const uint32_t at = base + stage % S::kStages * S::kStageBytes;
      x_copy.Run(at, int64_t{stage} * kDepth, p.k, x);
      w_copy.Run(at + S::kRows * kRowBytes, int64_t{stage} * kDepth, p.k, x);
    }
    CommitCopies();
  };
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first_row = warp / S::kColumnWarps * S::kRowTiles * 16;
  const int first_column = warp % S::kColumnWarps * 32;
  float sums[S::kRowTiles][4][4] = {};
#pragma unroll
  for (int stage = 0; stage < S::kStages - 1; ++stage) copy(stage);
  for (int stage = 0; stage < num_stages; ++stage) {
    WaitForCopies<S::kStages - 2>();
    __syncthreads();  // and the stage before is done with
    copy(stage + S::kStages - 1);
    const uint32_t at = base + stage % S::kStages * S::kStageBytes;
    MultiplyStage<S>(at, at + S::kRows * kRowBytes, first_row, first_column,
                     sums);
  }
#pragma unroll
  for (int i = 0; i < S::kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = tile.first_row + first_row + i * 16 + half * 8 + lane / 4;
      if (row >= tile.end_row) continue;
      Y* y = static_cast<Y*>(p.y) + int64_t{row} * p.n;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        StorePair(sums[i][j][half * 2], sums[i][j][half * 2 + 1],
                  first_n + first_column + j * 8 + lane % 4 * 2, p.n, y);
      }
    }
  }
}

template <typename S, typename Y>
cudaError_t LaunchMma(const MoeGemmParams& p, cudaStream_t stream) {
  const int64_t columns = (p.n + S::kColumns - 1) / S::kColumns;
  if (columns > 65535) return cudaErrorInvalidConfiguration;
  auto* kernel = MoeMmaKernel<S, Y>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(
                      cuda::MaxMoeTiles(p.num_rows, p.num_experts, S::kRows)),
                  static_cast<unsigned>(columns));
  return LaunchOverlapped(kernel, grid, dim3(S::kThreads), S::kSharedBytes,
                          stream, p);
}

template <typename Y>
cudaError_t LaunchMmaByRows(const MoeGemmParams& p, cudaStream_t stream) {
  // Rows of an expert, on average. All shapes give the same sums.
  const int64_t rows = p.num_rows / p.num_experts;
  if (rows <= 16) return LaunchMma<FewRows, Y>(p, stream);
  if (rows <= 192) return LaunchMma<SomeRows, Y>(p, stream);
  return LaunchMma<ManyRows, Y>(p, stream);
}

// A block computes kPlainTile x kPlainTile, a thread kPatch x kPatch of them,
// kPlainDepth of k at a time.
constexpr int kPlainTile = 64;
constexpr int kPatch = 4;
constexpr int kPlainDepth = 16;
constexpr int kSide = kPlainTile / kPatch;
constexpr int kPlainThreads = kSide * kSide;

template <typename T, typename Y>
__global__ void __launch_bounds__(kPlainThreads)
    MoePlainKernel(const __grid_constant__ MoeGemmParams p) {
  __shared__ float x_tile[kPlainDepth][kPlainTile + 1];
  __shared__ float w_tile[kPlainDepth][kPlainTile + 1];
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const cuda::MoeTile tile =
      cuda::FindMoeTile<kPlainTile>(p.expert_start, p.num_experts, blockIdx.x);
  if (tile.expert < 0) return;
  const T* x = static_cast<const T*>(p.x);
  const T* w = static_cast<const T*>(p.w) + int64_t{tile.expert} * p.n * p.k;
  const int64_t first_n = int64_t{blockIdx.y} * kPlainTile;
  const int row = threadIdx.x / kSide * kPatch;
  const int column = threadIdx.x % kSide * kPatch;
  float sums[kPatch][kPatch] = {};
  for (int64_t depth = 0; depth < p.k; depth += kPlainDepth) {
    for (int i = threadIdx.x; i < kPlainTile * kPlainDepth;
         i += kPlainThreads) {
      const int at = i / kPlainDepth, d = i % kPlainDepth;
      const bool inside = depth + d < p.k;
      const int x_row = tile.first_row + at;
      float x_value = 0, w_value = 0;
      if (inside && x_row < tile.end_row) {
        const int64_t from =
            p.row_tokens == nullptr ? x_row : p.row_tokens[x_row];
        x_value = cuda::ToFloat(x[from * p.k + depth + d]);
      }
      if (inside && first_n + at < p.n) {
        w_value = cuda::ToFloat(w[(first_n + at) * p.k + depth + d]);
      }
      x_tile[d][at] = x_value;
      w_tile[d][at] = w_value;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kPlainDepth; ++d) {
#pragma unroll
      for (int i = 0; i < kPatch; ++i) {
#pragma unroll
        for (int j = 0; j < kPatch; ++j) {
          sums[i][j] =
              fmaf(x_tile[d][row + i], w_tile[d][column + j], sums[i][j]);
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kPatch; ++i) {
    const int64_t m = tile.first_row + row + i;
    if (m >= tile.end_row) break;
    for (int j = 0; j < kPatch; ++j) {
      const int64_t n = first_n + column + j;
      if (n >= p.n) break;
      static_cast<Y*>(p.y)[m * p.n + n] = cuda::FromFloat<Y>(sums[i][j]);
    }
  }
}

template <typename T, typename Y>
cudaError_t LaunchPlain(const MoeGemmParams& p, cudaStream_t stream) {
  const int64_t columns = (p.n + kPlainTile - 1) / kPlainTile;
  if (columns > 65535) return cudaErrorInvalidConfiguration;
  const dim3 grid(static_cast<unsigned>(
                      cuda::MaxMoeTiles(p.num_rows, p.num_experts, kPlainTile)),
                  static_cast<unsigned>(columns));
  return LaunchOverlapped(MoePlainKernel<T, Y>, grid, dim3(kPlainThreads), 0,
                          stream, p);
}

}  // namespace

cudaError_t LaunchMoeGemmCuda(const MoeGemmParams& params,
                              cudaStream_t stream) {
  if (params.num_rows <= 0 || params.n <= 0) return cudaSuccess;
  const bool has_float_y = params.y_dtype == DType::kF32;
  if (params.dtype == DType::kF32) {
    return LaunchPlain<float, float>(params, stream);
  }
  const bool is_aligned = params.k % 8 == 0 && cuda::IsAligned16(params.x) &&
                          cuda::IsAligned16(params.w);
  if (is_aligned) {
    return has_float_y ? LaunchMmaByRows<float>(params, stream)
                       : LaunchMmaByRows<Bf16>(params, stream);
  }
  return has_float_y ? LaunchPlain<Bf16, float>(params, stream)
                     : LaunchPlain<Bf16, Bf16>(params, stream);
}

}  // namespace quire
