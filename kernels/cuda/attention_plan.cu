// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::attention {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
// Longest work first: serial rows by the logarithm of their nodes, then n
// folded splits at kFoldedBuckets - n, the last one leaves.
constexpr int kSerialBuckets = 8;
constexpr int kFoldedBuckets = kSerialBuckets + kNodeSplits;
constexpr int kUnitBuckets = kFoldedBuckets + 1;
constexpr int kTileBuckets = 64;
constexpr int kTileBucketKeys = 512;
// Rows are cut into splits where a pair that folded a node of theirs, of
// `longest` splits, would end too late: what is left of the step after them is
// less than kSplitPart * longest^2 splits a pair, or all of the step less than
// kFewPart * longest. What is split comes last, and evens out when pairs end;
// what is not needs no memory for states. Reads are as fast while a quarter of
// all pairs are left: nodes of four splits may begin when one is left, of eight
// when four are.
constexpr float kSplitPart = 1.0f / 16;
constexpr float kFewPart = 0.5f;
// Rows of no more positions are whole where pairs have more than a split each:
// to begin what lies beyond the first would take longer than to read it.
constexpr int32_t kWholeKeys = kSplit + kSplit / 2;

// Units that one thread writes; more are a warp's.
constexpr int32_t kFewUnits = 8;

struct Shared {
  uint64_t warp_sums[kWarps];
  uint64_t carry;
  int32_t unit_offsets[kUnitBuckets + 1];
  int32_t tile_offsets[kTileBuckets + 1];
  int32_t folds;
  int32_t long_folds;
};

__device__ int32_t NumNewTokens(const AttentionParams& p, int32_t seq) {
  return p.query_start[seq + 1] - p.query_start[seq];
}

__device__ int32_t CeilDiv(int32_t a, int32_t b) { return (a + b - 1) / b; }

// The sequence whose tiles include number `tile`.
__device__ int32_t FindSeq(const int32_t* starts, int32_t num_seqs,
                           int32_t tile) {
  // Of decodes with one tile each, the one of that number.
  if (tile < num_seqs && starts[tile] <= tile && tile < starts[tile + 1]) {
    return tile;
  }
  int32_t low = 0, high = num_seqs;
  while (high - low > 1) {
    const int32_t middle = (low + high) / 2;
    if (starts[middle] <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Inclusive sums over the block; two counts share the word.
__device__ uint64_t BlockScan(uint64_t value, Shared* shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, value, step);
    if (lane >= step) value += other;
  }
  if (lane == 31) shared->warp_sums[warp] = value;
  __syncthreads();
  if (warp == 0) {
    uint64_t sum = shared->warp_sums[lane];
    for (int step = 1; step < 32; step *= 2) {
      const uint64_t other = __shfl_up_sync(~0u, sum, step);
      if (lane >= step) sum += other;
    }
    shared->warp_sums[lane] = sum;
  }
  __syncthreads();
  if (warp > 0) value += shared->warp_sums[warp - 1];
  return value;
}

// Counts every sequence's tiles of both kinds; the sums are left in the carry.
__device__ void CountTiles(const AttentionParams& p, const AttentionPlan& plan,
                           int32_t group, Shared* shared) {
  if (threadIdx.x == 0) {
    shared->carry = 0;
    plan.decode_starts[0] = 0;
    plan.prefill_starts[0] = 0;
  }
  for (int32_t base = 0; base < p.num_seqs; base += kThreads) {
    __syncthreads();
    const int32_t seq = base + threadIdx.x;
    uint64_t counts = 0;
    if (seq < p.num_seqs) {
      const int32_t tokens = NumNewTokens(p, seq);
      const int32_t rows = tokens * group;
      counts = tokens <= plan.max_decode_tokens
                   ? static_cast<uint64_t>(CeilDiv(rows, plan.decode_rows))
                   : static_cast<uint64_t>(CeilDiv(rows, kPrefillRows)) << 32;
    }
    const uint64_t carry = shared->carry;
    counts = BlockScan(counts, shared) + carry;
    if (seq < p.num_seqs) {
      plan.decode_starts[seq + 1] = static_cast<int32_t>(counts);
      plan.prefill_starts[seq + 1] = static_cast<int32_t>(counts >> 32);
    }
    __syncthreads();
    if (threadIdx.x == kThreads - 1) shared->carry = counts;
  }
  __syncthreads();
}

// All of a decode tile but its kind and slots.
__device__ AttentionUnit DescribeRows(const AttentionParams& p,
                                      const AttentionPlan& plan, int32_t group,
                                      int32_t tile) {
  const int32_t seq = FindSeq(plan.decode_starts, p.num_seqs, tile);
  const int32_t tokens = NumNewTokens(p, seq);
  AttentionUnit unit = {};
  unit.seq_slot = p.seq_slots[seq];
  unit.query_start = p.query_start[seq];
  unit.position = p.context_lens[seq] - tokens;
  unit.row_begin = (tile - plan.decode_starts[seq]) * plan.decode_rows;
  unit.num_rows = min(plan.decode_rows, tokens * group - unit.row_begin);
  const int32_t first = unit.position + unit.row_begin / group;
  const int32_t last =
      unit.position + (unit.row_begin + unit.num_rows - 1) / group;
  unit.kv_begin =
      p.sliding_window > 0 ? max(0, first + 1 - p.sliding_window) : 0;
  unit.kv_end = max(unit.kv_begin, last + 1);
  unit.rows_split_begin = unit.kv_begin / kSplit;
  unit.rows_split_end =
      max(unit.rows_split_begin + 1, CeilDiv(unit.kv_end, kSplit));
  return unit;
}

__device__ int32_t FirstNode(const AttentionUnit& rows) {
  return rows.rows_split_begin / kNodeSplits;
}
__device__ int32_t NumNodes(const AttentionUnit& rows) {
  return CeilDiv(rows.rows_split_end, kNodeSplits) - FirstNode(rows);
}

// Slots that rows would take, of the splits' states and of the nodes', in one
// word.
__device__ uint64_t SlotsOf(int32_t leaves, int32_t nodes) {
  return static_cast<uint64_t>(nodes) << 32 | static_cast<uint32_t>(leaves);
}

// `tile`: which of num_rows the rows are.
__device__ uint64_t WantedSlots(const AttentionUnit& rows,
                                float splits_per_pair, int32_t tile,
                                int32_t num_rows) {
  const int32_t splits = rows.rows_split_end - rows.rows_split_begin;
  const int32_t nodes = NumNodes(rows);
  const int32_t longest = min(splits, kNodeSplits);
  const float each = splits_per_pair / num_rows;
  const bool is_whole =
      rows.kv_end - rows.kv_begin <= kWholeKeys && splits_per_pair > 1;
  const bool is_split =
      longest > 1 && !is_whole &&
      (each * (num_rows - 1 - tile) < kSplitPart * longest * longest ||
       splits_per_pair < kFewPart * longest);
  // One pair folds all nodes of rows that take no more than its share of what
  // is left: nothing of them is left to combine in the end.
  const bool is_serial = splits <= each * (num_rows - tile);
  return SlotsOf(is_split ? splits : 0, nodes > 1 && !is_serial ? nodes : 0);
}

__device__ int SerialBucket(const AttentionUnit& rows) {
  return kSerialBuckets - 1 -
         min(kSerialBuckets - 1, 31 - __clz(NumNodes(rows)));
}
__device__ int FoldedBucket(int32_t splits) { return kFoldedBuckets - splits; }

// Chooses the kind and counts the units. `wanted` slots are those from `first`
// on, as far as there are so many.
__device__ void Decide(const AttentionPlan& plan, uint64_t first,
                       uint64_t wanted, AttentionUnit* rows, Shared* shared) {
  const auto has_room = [](uint64_t begin, uint64_t count, int32_t capacity) {
    return static_cast<uint32_t>(begin) +
               int64_t{static_cast<uint32_t>(count)} <=
           capacity;
  };
  rows->kind = kFolded;
  rows->node_slot = -1;
  rows->leaf_slot = -1;
  if (NumNodes(*rows) > 1) {
    if (wanted >> 32 == 0 ||
        !has_room(first >> 32, wanted >> 32, plan.node_capacity)) {
      rows->kind = kSerial;
      atomicAdd(&shared->unit_offsets[SerialBucket(*rows)], 1);
      return;
    }
    rows->node_slot = static_cast<int32_t>(first >> 32);
  }
  if (static_cast<uint32_t>(wanted) != 0 &&
      has_room(first, wanted, plan.leaf_capacity)) {
    rows->leaf_slot = static_cast<int32_t>(first);
    rows->kind = kLeaf;
    atomicAdd(&shared->unit_offsets[kUnitBuckets - 1],
              static_cast<int32_t>(wanted));
    return;
  }
  for (int32_t node = 0; node < NumNodes(*rows); ++node) {
    const int32_t begin = (FirstNode(*rows) + node) * kNodeSplits;
    const int32_t count = min(rows->rows_split_end, begin + kNodeSplits) -
                          max(rows->rows_split_begin, begin);
    atomicAdd(&shared->unit_offsets[FoldedBucket(count)], 1);
  }
}

// Notes rows whose stored states are to be combined.
__device__ void NoteFold(const AttentionPlan& plan, const AttentionUnit& rows,
                         int32_t tile, Shared* shared) {
  const bool is_stored =
      rows.kind == kLeaf || (rows.kind == kFolded && rows.node_slot >= 0);
  if (!is_stored) return;
  if (rows.kind == kFolded || NumNodes(rows) <= kFewNodes) {
    plan.folds[atomicAdd(&shared->folds, 1)] = tile;
  } else {
    plan.folds[plan.fold_capacity - 1 - atomicAdd(&shared->long_folds, 1)] =
        tile;
  }
}

// From counts to where each bucket begins.
__device__ void TurnCountsIntoOffsets(int32_t* counts, int32_t buckets) {
  int32_t sum = 0;
  for (int32_t i = 0; i < buckets; ++i) {
    const int32_t count = counts[i];
    counts[i] = sum;
    sum += count;
  }
  counts[buckets] = sum;
}

__device__ void WriteUnit(const AttentionPlan& plan, const AttentionUnit& rows,
                          int32_t split_begin, int32_t split_end, int32_t at) {
  if (at >= plan.unit_capacity) __trap();  // the launcher sized it too small
  AttentionUnit unit = rows;
  unit.split_begin = split_begin;
  unit.split_end = split_end;
  unit.kv_begin = max(unit.kv_begin, split_begin * kSplit);
  unit.kv_end = min(unit.kv_end, split_end * kSplit);
  plan.units[at] = unit;
}

__device__ int32_t NumUnits(const AttentionUnit& rows) {
  return rows.kind == kSerial ? 1
         : rows.kind == kLeaf ? rows.rows_split_end - rows.rows_split_begin
                              : NumNodes(rows);
}

// Writes every step-th unit of one decode tile, beginning with number `first`.
// `leaf_at`: where the first of them goes, if they are splits.
__device__ void WriteUnits(const AttentionPlan& plan, const AttentionUnit& rows,
                           int32_t leaf_at, int32_t first, int32_t step,
                           Shared* shared) {
  if (rows.kind == kLeaf) {
    const int32_t splits = rows.rows_split_end - rows.rows_split_begin;
    for (int32_t i = first; i < splits; i += step) {
      const int32_t split = rows.rows_split_begin + i;
      WriteUnit(plan, rows, split, split + 1, leaf_at + i);
    }
    return;
  }
  if (rows.kind == kSerial) {
    if (first == 0) {
      WriteUnit(plan, rows, rows.rows_split_begin, rows.rows_split_end,
                atomicAdd(&shared->unit_offsets[SerialBucket(rows)], 1));
    }
    return;
  }
  for (int32_t node = first; node < NumNodes(rows); node += step) {
    const int32_t node_begin = (FirstNode(rows) + node) * kNodeSplits;
    const int32_t begin = max(rows.rows_split_begin, node_begin);
    const int32_t end = min(rows.rows_split_end, node_begin + kNodeSplits);
    WriteUnit(plan, rows, begin, end,
              atomicAdd(&shared->unit_offsets[FoldedBucket(end - begin)], 1));
  }
}

// Where a decode tile's splits go.
__device__ int32_t TakeLeafPlaces(const AttentionUnit& rows, Shared* shared) {
  if (rows.kind != kLeaf) return 0;
  return atomicAdd(&shared->unit_offsets[kUnitBuckets - 1], NumUnits(rows));
}

// The units of tiles that have many: a warp each.
__device__ void WriteManyUnits(const AttentionPlan& plan, int32_t num_rows,
                               Shared* shared) {
  const int lane = threadIdx.x % 32;
  for (int32_t tile = threadIdx.x / 32; tile < num_rows; tile += kWarps) {
    const AttentionUnit& rows = plan.rows[tile];
    if (NumUnits(rows) <= kFewUnits) continue;
    int32_t leaf_at = 0;
    if (lane == 0) leaf_at = TakeLeafPlaces(rows, shared);
    leaf_at = __shfl_sync(~0u, leaf_at, 0);
    WriteUnits(plan, rows, leaf_at, lane, 32, shared);
  }
}

// Which bucket a sequence's prefill tiles belong to, by how many keys the last
// of them reads.
__device__ int32_t TileBucket(const AttentionParams& p, int32_t seq) {
  int32_t keys = p.context_lens[seq];
  if (p.sliding_window > 0) keys = min(keys, p.sliding_window);
  return kTileBuckets - 1 -
         min(kTileBuckets - 1, max(keys, 0) / kTileBucketKeys);
}

// Longest sequences first, and the last rows of each: thread blocks that run at
// the same time read the same keys, and the tiles left to the end are short.
__device__ void PlanPrefills(const AttentionParams& p,
                             const AttentionPlan& plan, Shared* shared) {
  const int lane = threadIdx.x % 32;
  for (int pass = 0; pass < 2; ++pass) {
    for (int32_t seq = threadIdx.x / 32; seq < p.num_seqs; seq += kWarps) {
      const int32_t count =
          plan.prefill_starts[seq + 1] - plan.prefill_starts[seq];
      if (count == 0) continue;
      int32_t at = 0;
      if (lane == 0) {
        at = atomicAdd(&shared->tile_offsets[TileBucket(p, seq)], count);
      }
      if (pass == 0) continue;
      at = __shfl_sync(~0u, at, 0);
      for (int32_t tile = lane; tile < count; tile += 32) {
        plan.tiles[at + tile] = {seq, (count - 1 - tile) * kPrefillRows};
      }
    }
    __syncthreads();
    if (pass == 0 && threadIdx.x == 0) {
      TurnCountsIntoOffsets(shared->tile_offsets, kTileBuckets);
    }
    __syncthreads();
  }
}

// All decode tiles, a thread each and its first one in `rows`; yields whether a
// thread has a tile of many units.
__device__ bool PlanDecodes(const AttentionParams& p, const AttentionPlan& plan,
                            int32_t group, int32_t num_rows,
                            AttentionUnit* rows, Shared* shared) {
  uint64_t splits = 0;
  for (int32_t tile = threadIdx.x; tile < num_rows; tile += kThreads) {
    *rows = DescribeRows(p, plan, group, tile);
    splits += rows->rows_split_end - rows->rows_split_begin;
    if (num_rows > kThreads) plan.rows[tile] = *rows;
  }
  splits = BlockScan(splits, shared);
  if (threadIdx.x == kThreads - 1) shared->carry = splits;
  __syncthreads();
  const float splits_per_pair = static_cast<float>(shared->carry) *
                                p.cache.layout.num_kv_heads / plan.num_pairs;
  bool has_many = false;
  uint64_t taken = 0;
  for (int32_t base = 0; base < num_rows; base += kThreads) {
    const int32_t tile = base + threadIdx.x;
    const bool is_there = tile < num_rows;
    if (is_there && num_rows > kThreads) *rows = plan.rows[tile];
    const uint64_t wanted =
        is_there ? WantedSlots(*rows, splits_per_pair, tile, num_rows) : 0;
    __syncthreads();  // all have read the carry, and the sums of warps
    const uint64_t end = taken + BlockScan(wanted, shared);
    if (is_there) {
      Decide(plan, end - wanted, wanted, rows, shared);
      NoteFold(plan, *rows, tile, shared);
      has_many |= NumUnits(*rows) > kFewUnits;
      plan.rows[tile] = *rows;
    }
    if (threadIdx.x == kThreads - 1) shared->carry = end;
    __syncthreads();
    taken = shared->carry;
  }
  return has_many;
}

// One block. The order of units within a bucket varies from run to run; results
// do not depend on it.
__global__ void __launch_bounds__(kThreads)
    PlanKernel(const AttentionParams p, const AttentionPlan plan) {
  __shared__ Shared shared;
  LetNextKernelBegin();
  const int32_t group = p.num_q_heads / p.cache.layout.num_kv_heads;
  if (threadIdx.x == 0) {
    shared.folds = 0;
    shared.long_folds = 0;
  }
  for (int i = threadIdx.x; i <= kTileBuckets; i += kThreads) {
    if (i <= kUnitBuckets) shared.unit_offsets[i] = 0;
    shared.tile_offsets[i] = 0;
  }
  WaitForEarlierKernels();
  CountTiles(p, plan, group, &shared);
  const auto num_rows = static_cast<int32_t>(shared.carry);
  const auto num_tiles = static_cast<int32_t>(shared.carry >> 32);
  AttentionUnit rows;
  const bool has_many =
      __syncthreads_or(PlanDecodes(p, plan, group, num_rows, &rows, &shared));
  if (threadIdx.x == 0) {
    TurnCountsIntoOffsets(shared.unit_offsets, kUnitBuckets);
    *plan.header = {};
    plan.header->next_unit = plan.num_pairs;
    plan.header->num_units = shared.unit_offsets[kUnitBuckets];
    plan.header->num_tiles = num_tiles;
    plan.header->num_folds = shared.folds;
    plan.header->num_long_folds = shared.long_folds;
  }
  __syncthreads();
  for (int32_t tile = threadIdx.x; tile < num_rows; tile += kThreads) {
    if (num_rows > kThreads) rows = plan.rows[tile];
    if (NumUnits(rows) > kFewUnits) continue;
    WriteUnits(plan, rows, TakeLeafPlaces(rows, &shared), 0, 1, &shared);
  }
  if (has_many) WriteManyUnits(plan, num_rows, &shared);
  if (num_tiles > 0) PlanPrefills(p, plan, &shared);
}

}  // namespace

cudaError_t LaunchPlan(const AttentionParams& params, const AttentionPlan& plan,
                       cudaStream_t stream) {
  return LaunchOverlapped(PlanKernel, dim3(1), dim3(kThreads), 0, stream,
                          params, plan);
}

}  // namespace quire::attention
