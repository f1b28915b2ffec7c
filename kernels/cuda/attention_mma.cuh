// SPDX-License-Identifier: Apache-2.0
//
// What the attention kernels of bfloat16 share: the tensor cores' fragments and
// the one order of arithmetic that makes them agree bit by bit (the header of
// attention_plan.h says which).
//
// Scores and outputs are computed transposed, with keys and head elements as
// the 16 rows of a matrix instruction and query rows as its 8 columns: few
// query rows share keys, and a warp holds kRowTiles * 8 of them. Fragments are
// those of mma.m16n8k16: of the results, lane `l` of a warp has rows l / 4 and
// l / 4 + 8 ("low" and "high") of columns 2 * (l % 4) and the next.
#ifndef KERNELS_CUDA_ATTENTION_MMA_CUH_
#define KERNELS_CUDA_ATTENTION_MMA_CUH_

#include <cstdint>

#include "cuda_bf16.h"
#include "kernels/cuda/attention_async.cuh"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {

// Positions that are copied to shared memory together.
constexpr int kChunk = 32;
// Columns of a matrix instruction: query rows.
constexpr int kTileRows = 8;
constexpr float kLog2E = 1.4426950408889634f;
// Beyond a shared-memory row: an odd number of 16-byte units from row to row
// lets eight rows be read at once without bank conflicts.
constexpr int kRowPadding = 8;
// Of a row's part of 64 elements.
constexpr int kTileRowBytes = 128;

__device__ __forceinline__ float NegativeInfinity() {
  return __int_as_float(0xff800000);
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void LoadMatrices(uint32_t address,
                                             uint32_t (&r)[4]) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address)
      : "memory");
}

__device__ __forceinline__ void LoadMatricesTransposed(uint32_t address,
                                                       uint32_t (&r)[4]) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address)
      : "memory");
}

__device__ __forceinline__ void Multiply(float (&c)[4], const uint32_t (&a)[4],
                                         uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Transposes 8 by 8 numbers, two neighbours of a row to a word.
__device__ __forceinline__ uint32_t Transpose(uint32_t pair) {
  uint32_t transposed;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
      : "=r"(transposed)
      : "r"(pair));
  return transposed;
}

// The online softmax of a warp's rows, kRowTiles times 8. Of each 8, a lane has
// columns 2 * (lane % 4) and the next: [0] and [1].
template <int kHeadDim, int kRowTiles>
struct RowState {
  // Elements 16 j + lane / 4 of both rows, then 8 more.
  float o[kHeadDim / 16][kRowTiles][4];
  float l[kRowTiles][4];  // sums of weights, twice
  float m[kRowTiles][2];  // largest scores so far, not scaled

  __device__ __forceinline__ void Reset() {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < kHeadDim / 16; ++j) o[j][tile][i] = 0.0f;
        l[tile][i] = 0.0f;
      }
      m[tile][0] = m[tile][1] = NegativeInfinity();
    }
  }
};

// Some query rows of a sequence, as the columns of scores.
template <int kHeadDim, int kRowTiles>
struct QueryRows {
  uint32_t q[kHeadDim / 16][kRowTiles][2];
  // Positions that a lane's rows attend to.
  int32_t begin[kRowTiles][2];
  int32_t end[kRowTiles][2];
  int32_t whole_begin, whole_end;  // that all rows do

  // Rows [row_begin, row_begin + num_rows) of the sequence whose new tokens
  // begin at query_start and at `position`. Those beyond are zeros.
  __device__ __forceinline__ void Load(const AttentionParams& p, int group,
                                       int query_start, int position,
                                       int kv_head, int row_begin, int num_rows,
                                       int lane) {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      const int row = tile * kTileRows + lane / 4;
      const bool is_valid = row < num_rows;
      const int in_seq = row_begin + (is_valid ? row : 0);
      const __nv_bfloat16* from =
          static_cast<const __nv_bfloat16*>(p.q) +
          (query_start + in_seq / group) * p.q_stride +
          int64_t{kv_head * group + in_seq % group} * kHeadDim + (lane & 3) * 2;
#pragma unroll
      for (int k = 0; k < kHeadDim / 16; ++k) {
        const uint32_t* at = reinterpret_cast<const uint32_t*>(from + k * 16);
        q[k][tile][0] = is_valid ? at[0] : 0;
        q[k][tile][1] = is_valid ? at[4] : 0;
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column =
            min(tile * kTileRows + (lane & 3) * 2 + i, num_rows - 1);
        end[tile][i] = position + (row_begin + column) / group + 1;
        begin[tile][i] =
            p.sliding_window > 0 ? max(0, end[tile][i] - p.sliding_window) : 0;
      }
    }
    whole_end = position + row_begin / group + 1;
    const int last_end = position + (row_begin + num_rows - 1) / group + 1;
    whole_begin = p.sliding_window > 0 ? last_end - p.sliding_window : 0;
  }
};

// How a chunk's rows lie in shared memory, so that eight of them are read at
// once without bank conflicts. `unit` counts 16 bytes of a row.
//
// Padded: [kChunk][kHeadDim + kRowPadding].
template <int kHeadDim>
struct PaddedRows {
  static constexpr int kStride = (kHeadDim + kRowPadding) * 2;
  static constexpr int kChunkBytes = kChunk * kStride;

  static __device__ __forceinline__ uint32_t First(int row, int unit) {
    return row * kStride + unit * 16;
  }
  // As much further than First(): `row` a multiple of 8, `unit` of 2.
  static __device__ __forceinline__ uint32_t Further(uint32_t first, int row,
                                                     int unit) {
    return first + row * kStride + unit * 16;
  }
};

// Tiled (KvOrder::kTiles): [kHeadDim / 64][kChunk][64], unit u of a part of row
// r being at u ^ (r % 8). REQUIRES: chunks aligned to 128 bytes.
template <int kHeadDim>
struct TiledRows {
  static constexpr int kPartBytes = kChunk * kTileRowBytes;
  static constexpr int kParts = kHeadDim * 2 / kTileRowBytes;
  static constexpr int kChunkBytes = kParts * kPartBytes;

  static __device__ __forceinline__ uint32_t First(int row, int unit) {
    return row * kTileRowBytes + (unit ^ (row & 7)) * 16;
  }
  static __device__ __forceinline__ uint32_t Further(uint32_t first, int row,
                                                     int unit) {
    return (first ^ ((unit & 7) * 16)) + row * kTileRowBytes +
           unit / 8 * kPartBytes;
  }
};

// Scores of the rows against a chunk of keys at `keys`, added to s: of each 16
// keys, a lane has four scores.
template <typename Rows, int kHeadDim, int kRowTiles>
__device__ __forceinline__ void ScoreChunk(
    const uint32_t (&q)[kHeadDim / 16][kRowTiles][2], uint32_t keys, int lane,
    float (*s)[kRowTiles][4]) {
  const uint32_t first = keys + Rows::First(lane & 15, lane >> 4);
#pragma unroll
  for (int k = 0; k < kHeadDim / 16; ++k) {
#pragma unroll
    for (int half = 0; half < kChunk / 16; ++half) {
      uint32_t a[4];
      LoadMatrices(Rows::Further(first, half * 16, 2 * k), a);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        Multiply(s[half][tile], a, q[k][tile][0], q[k][tile][1]);
      }
    }
  }
}

// o += weights . values, for a chunk of values laid out as keys are, and l
// their sum, of the same rounded weights.
template <typename Rows, int kHeadDim, int kRowTiles>
__device__ __forceinline__ void AccumulateChunk(
    const uint32_t (*weights)[kRowTiles][2], uint32_t values, int lane,
    RowState<kHeadDim, kRowTiles>* state) {
  constexpr uint32_t kOnes[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80,
                                 0x3f803f80};
  const uint32_t first =
      values + Rows::First((lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1);
#pragma unroll
  for (int k = 0; k < kChunk / 16; ++k) {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      Multiply(state->l[tile], kOnes, weights[k][tile][0], weights[k][tile][1]);
    }
#pragma unroll
    for (int j = 0; j < kHeadDim / 16; ++j) {
      uint32_t a[4];
      LoadMatricesTransposed(Rows::Further(first, k * 16, 2 * j), a);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        Multiply(state->o[j][tile], a, weights[k][tile][0],
                 weights[k][tile][1]);
      }
    }
  }
}

// Takes scores outside the rows' ranges away. `at`: position of the tile.
template <int kHeadDim, int kRowTiles>
__device__ __forceinline__ void MaskTile(
    int at, int lane, const QueryRows<kHeadDim, kRowTiles>& rows,
    float (&s)[kTile / 16][kRowTiles][4]) {
#pragma unroll
  for (int j = 0; j < kTile / 16; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = at + j * 16 + lane / 4 + (i >> 1) * 8;
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        if (position < rows.begin[tile][i & 1] ||
            position >= rows.end[tile][i & 1]) {
          s[j][tile][i] = NegativeInfinity();
        }
      }
    }
  }
}

// One tile's update of m, and of l and o what earlier sums shrink by; leaves
// the weights, ready to multiply. `scale`: of scores, times log2(e).
template <int kHeadDim, int kRowTiles>
__device__ __forceinline__ void SoftmaxTile(
    float (&s)[kTile / 16][kRowTiles][4], float scale,
    RowState<kHeadDim, kRowTiles>* state,
    uint32_t (&weights)[kTile / 16][kRowTiles][2]) {
  float shrink[kRowTiles][2], offset[kRowTiles][2];
  bool is_settled = true;
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float top = fmaxf(s[0][tile][row], s[0][tile][row + 2]);
#pragma unroll
      for (int j = 1; j < kTile / 16; ++j) {
        top = fmaxf(top, fmaxf(s[j][tile][row], s[j][tile][row + 2]));
      }
#pragma unroll
      for (int step = 4; step < 32; step *= 2) {
        top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
      }
      const float old = state->m[tile][row];
      const float now = fmaxf(old, top);
      const float used = now == NegativeInfinity() ? 0.0f : now;
      offset[tile][row] = -__fmul_rn(used, scale);
      // Exactly one where the maximum stays.
      shrink[tile][row] = Exp2(__fmul_rn(__fsub_rn(old, used), scale));
      is_settled = is_settled && shrink[tile][row] == 1.0f;
      state->m[tile][row] = now;
    }
#pragma unroll
    for (int j = 0; j < kTile / 16; ++j) {
      float weight[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        weight[i] = Exp2(__fmaf_rn(s[j][tile][i], scale, offset[tile][i & 1]));
      }
      weights[j][tile][0] = Transpose(PackBf16(weight[0], weight[1]));
      weights[j][tile][1] = Transpose(PackBf16(weight[2], weight[3]));
    }
  }
  if (__all_sync(~0u, is_settled)) return;
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kHeadDim / 16; ++j) {
        state->o[j][tile][i] =
            __fmul_rn(state->o[j][tile][i], shrink[tile][i & 1]);
      }
      state->l[tile][i] = __fmul_rn(state->l[tile][i], shrink[tile][i & 1]);
    }
  }
}

// Rows of the cache, each kHeadDim elements: where positions' keys lie.
struct CacheRows {
  const int32_t* table;
  uint32_t rows_per_block;
  uint32_t rows_per_token;  // 1 where a head's tokens lie together
  uint32_t first_row;       // of this layer and head in a block
  uint32_t to_values;       // rows from a key to its value
  uint32_t factor;
  int32_t shift;
  int32_t block_size;

  __device__ __forceinline__ CacheRows(const AttentionParams& p,
                                       const AttentionPlan& plan, int seq_slot,
                                       int kv_head) {
    const KvLayout& layout = p.cache.layout;
    table = p.block_tables + int64_t{seq_slot} * p.max_blocks_per_seq;
    block_size = layout.block_size;
    factor = plan.block_factor;
    shift = plan.block_shift;
    const bool by_heads = layout.order != KvOrder::kTokens;
    const uint32_t rows_per_head = by_heads ? block_size : 1;
    to_values = layout.num_kv_heads * rows_per_head;
    rows_per_block = plan.block_rows;
    rows_per_token = by_heads ? 1 : layout.num_layers * 2 * to_values;
    first_row =
        p.cache.layer_idx * 2 * to_values + uint32_t(kv_head) * rows_per_head;
  }

  __device__ __forceinline__ int BlockOf(int position) const {
    const int quotient = __umulhi(position, factor) >> (shift & 31);
    return block_size == 1 ? position : quotient;
  }
  // Of a position's block.
  __device__ __forceinline__ uint32_t FirstOf(int block) const {
    return static_cast<uint32_t>(__ldg(table + block)) * rows_per_block +
           first_row;
  }
  __device__ __forceinline__ uint32_t At(int position) const {
    const int block = BlockOf(position);
    return FirstOf(block) + (position - block * block_size) * rows_per_token;
  }
  // Of a tiled cache: the line of kTileRowBytes that a part of the position's
  // row is. The next part's is block_size lines further on.
  template <int kHeadDim>
  __device__ __forceinline__ uint32_t LineAt(int position, int part) const {
    const int block = BlockOf(position);
    return FirstOf(block) * (kHeadDim / kTilePart) + part * block_size +
           (position - block * block_size);
  }
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_MMA_CUH_
