// SPDX-License-Identifier: Apache-2.0
//
// How warps bring a prefill's tile of keys or values of a tiled cache
// (KvOrder::kTiles) to shared memory: by bulk copies, as lines lie there in the
// order that matrix instructions read. A warp begins them one by one, for which
// one warp alone is too slow.
#ifndef KERNELS_CUDA_ATTENTION_RUNS_CUH_
#define KERNELS_CUDA_ATTENTION_RUNS_CUH_

#include <cstdint>

#include "kernels/cuda/attention_async.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_tile.cuh"

namespace quire::attention {

// What values without a position are: the most rows that a lane copies at once.
static __device__ const uint4
    kZeroRows[2 * kTileTokens * kTileRowBytes / sizeof(uint4)] = {};

// One warp's kRows rows of a slot, from `first_row` on, each of them
// kHeadDim / kTilePart lines. Layout::At(part, row) is where in the slot a line
// lies, in bytes. A lane copies lines of one part, of neighbouring rows that
// one block holds.
template <int kHeadDim, int kRows, typename Layout>
class TileRuns {
 public:
  static constexpr int kParts = kHeadDim / kTilePart;
  static_assert(kRows % (2 * kTileTokens) == 0);
  static_assert(kParts * kRows / kTileTokens <= 32);

  __device__ __forceinline__ TileRuns(const AttentionParams& p, int first_row)
      : base_(static_cast<const uint8_t*>(p.cache.base)),
        lane_(threadIdx.x % 32),
        first_row_(first_row),
        run_(p.cache.layout.block_size % (2 * kTileTokens) == 0
                 ? 2 * kTileTokens
                 : kTileTokens) {}

  // The cache's line that this lane's copy of the tile at `at` begins with, for
  // keys; kNoRow if it has none to make.
  __device__ __forceinline__ uint32_t LookUp(const CacheRows& cache,
                                             const TileRows& rows,
                                             int at) const {
    const int first = at + FirstRow();
    const int position = max(first, rows.kv_begin);
    const bool is_any = FirstRow() < first_row_ + kRows &&
                        position < min(first + run_, rows.kv_end);
    return is_any ? cache.LineAt<kHeadDim>(position, lane_ % kParts) : kNoRow;
  }

  // Arrives at `barrier`, once a warp, and lets it wait for the copies. `line`:
  // what LookUp() said, `offset` lines further on. Keys without a position stay
  // what they were: they are masked. Values without one are multiplied by zero,
  // and must be numbers: zeros are copied there.
  __device__ __forceinline__ void Copy(const TileRows& rows, int at,
                                       uint32_t line, uint32_t offset,
                                       bool is_values, uint8_t* slot,
                                       uint32_t barrier) const {
    const int last = first_row_ + kRows;
    const int begin = min(max(rows.kv_begin - at, first_row_), last);
    const int end = max(min(rows.kv_end - at, last), begin);
    const int num_rows = end - begin;
    const bool is_cleared = is_values && num_rows < kRows;
    if (lane_ == 0) {
      ArriveExpecting(barrier,
                      (is_cleared ? kRows : num_rows) * kHeadDim * 2);
    }
    __syncwarp();
    if (is_cleared) ClearRows(slot, begin, end, barrier);
    if (line == kNoRow) return;
    const int row = max(FirstRow(), begin);
    CopyBulk(SharedAddress(slot) + Layout::At(lane_ % kParts, row),
             base_ + uint64_t{line + offset} * kTileRowBytes,
             (min(FirstRow() + run_, end) - row) * kTileRowBytes, barrier);
  }

 private:
  __device__ __forceinline__ int FirstRow() const {
    return first_row_ + lane_ / kParts * run_;
  }

  // This lane's rows but those of [begin, end).
  __device__ __forceinline__ void ClearRows(uint8_t* slot, int begin, int end,
                                            uint32_t barrier) const {
    const int first = FirstRow(), last = first + run_;
    if (first >= first_row_ + kRows) return;
    const int low = max(first, min(begin, last));
    const int high = max(low, min(end, last));
    CopyZeros(slot, first, low - first, barrier);
    CopyZeros(slot, high, last - high, barrier);
  }
  __device__ __forceinline__ void CopyZeros(uint8_t* slot, int row, int count,
                                            uint32_t barrier) const {
    if (count == 0) return;
    CopyBulk(SharedAddress(slot) + Layout::At(lane_ % kParts, row), kZeroRows,
             count * kTileRowBytes, barrier);
  }

  const uint8_t* base_;
  const int lane_;
  const int first_row_;
  const int run_;  // rows that a lane copies, at most; blocks are a multiple
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_RUNS_CUH_
