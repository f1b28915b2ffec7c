// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/attention_plan.h"

namespace quire::attention {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
// Longest work first: bucket 0 serial, 1 + kNodeSplits - n for n folded splits,
// the last one leaves.
constexpr int kUnitBuckets = kNodeSplits + 2;
constexpr int kTileBuckets = 64;
constexpr int kTileBucketKeys = 512;
// Of rows whose nodes take `longest` splits where a pair's share of the step is
// `share`, all but kSplitPart * longest / share are folded by one pair each,
// and need no memory for states; what is split comes last, and evens out when
// pairs end.
constexpr float kSplitPart = 0.75f;

struct Shared {
  uint64_t warp_sums[kWarps];
  uint64_t carry;
  unsigned long long total_splits;
  int32_t unit_offsets[kUnitBuckets + 1];
  int32_t tile_offsets[kTileBuckets + 1];
  int32_t leaves;
  int32_t nodes;
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

// Counts every sequence's tiles of both kinds.
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

// Slots out of `capacity`, or -1.
__device__ int32_t Reserve(volatile int32_t* used, int32_t count,
                           int32_t capacity) {
  int32_t slot = *used;
  while (slot + count <= capacity) {
    const int32_t seen =
        atomicCAS(const_cast<int32_t*>(used), slot, slot + count);
    if (seen == slot) return slot;
    slot = seen;
  }
  return -1;
}

// Chooses the kind, takes slots, and counts the units. `place`: of the rows
// among all, from 0 to 1.
__device__ void Decide(const AttentionPlan& plan, float splits_per_pair,
                       float place, AttentionUnit* rows, Shared* shared) {
  const int32_t splits = rows->rows_split_end - rows->rows_split_begin;
  const int32_t nodes = NumNodes(*rows);
  const int32_t longest = min(splits, kNodeSplits);
  rows->kind = kFolded;
  rows->node_slot = -1;
  rows->leaf_slot = -1;
  if (nodes > 1) {
    rows->node_slot = Reserve(&shared->nodes, nodes, plan.node_capacity);
    if (rows->node_slot < 0) {
      rows->kind = kSerial;
      atomicAdd(&shared->unit_offsets[0], 1);
      return;
    }
  }
  if (longest > 1 && (1.0f - place) * splits_per_pair < longest * kSplitPart) {
    rows->leaf_slot = Reserve(&shared->leaves, splits, plan.leaf_capacity);
    if (rows->leaf_slot >= 0) {
      rows->kind = kLeaf;
      atomicAdd(&shared->unit_offsets[kUnitBuckets - 1], splits);
      return;
    }
  }
  for (int32_t node = 0; node < nodes; ++node) {
    const int32_t begin = (FirstNode(*rows) + node) * kNodeSplits;
    const int32_t count = min(rows->rows_split_end, begin + kNodeSplits) -
                          max(rows->rows_split_begin, begin);
    atomicAdd(&shared->unit_offsets[1 + kNodeSplits - count], 1);
  }
}

// Notes rows whose stored states are to be combined.
__device__ void NoteFold(const AttentionPlan& plan, int32_t tile,
                         Shared* shared) {
  const AttentionUnit& rows = plan.rows[tile];
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

// One warp writes the units of one decode tile.
__device__ void WriteUnits(const AttentionPlan& plan, const AttentionUnit& rows,
                           Shared* shared) {
  const int lane = threadIdx.x % 32;
  if (rows.kind == kLeaf) {
    const int32_t splits = rows.rows_split_end - rows.rows_split_begin;
    int32_t at = 0;
    if (lane == 0) {
      at = atomicAdd(&shared->unit_offsets[kUnitBuckets - 1], splits);
    }
    at = __shfl_sync(~0u, at, 0);
    for (int32_t i = lane; i < splits; i += 32) {
      const int32_t split = rows.rows_split_begin + i;
      WriteUnit(plan, rows, split, split + 1, at + i);
    }
    return;
  }
  if (rows.kind == kSerial) {
    if (lane == 0) {
      WriteUnit(plan, rows, rows.rows_split_begin, rows.rows_split_end,
                atomicAdd(&shared->unit_offsets[0], 1));
    }
    return;
  }
  for (int32_t node = lane; node < NumNodes(rows); node += 32) {
    const int32_t first = (FirstNode(rows) + node) * kNodeSplits;
    const int32_t begin = max(rows.rows_split_begin, first);
    const int32_t end = min(rows.rows_split_end, first + kNodeSplits);
    WriteUnit(
        plan, rows, begin, end,
        atomicAdd(&shared->unit_offsets[1 + kNodeSplits - (end - begin)], 1));
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
  if (plan.prefill_starts[p.num_seqs] == 0) return;
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

// One block. The order of units within a bucket varies from run to run; results
// do not depend on it.
__global__ void __launch_bounds__(kThreads)
    PlanKernel(const AttentionParams p, const AttentionPlan plan) {
  __shared__ Shared shared;
  const int32_t num_kv_heads = p.cache.layout.num_kv_heads;
  const int32_t group = p.num_q_heads / num_kv_heads;
  if (threadIdx.x == 0) {
    shared.total_splits = 0;
    shared.leaves = 0;
    shared.nodes = 0;
    shared.folds = 0;
    shared.long_folds = 0;
  }
  for (int i = threadIdx.x; i <= kTileBuckets; i += kThreads) {
    if (i <= kUnitBuckets) shared.unit_offsets[i] = 0;
    shared.tile_offsets[i] = 0;
  }
  CountTiles(p, plan, group, &shared);
  const int32_t num_rows = plan.decode_starts[p.num_seqs];
  unsigned long long splits = 0;
  for (int32_t tile = threadIdx.x; tile < num_rows; tile += kThreads) {
    const AttentionUnit rows = DescribeRows(p, plan, group, tile);
    splits += rows.rows_split_end - rows.rows_split_begin;
    plan.rows[tile] = rows;
  }
  if (splits > 0) atomicAdd(&shared.total_splits, splits);
  __syncthreads();
  const float splits_per_pair =
      static_cast<float>(shared.total_splits) * num_kv_heads / plan.num_pairs;
  for (int32_t tile = threadIdx.x; tile < num_rows; tile += kThreads) {
    Decide(plan, splits_per_pair, static_cast<float>(tile) / num_rows,
           &plan.rows[tile], &shared);
    NoteFold(plan, tile, &shared);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    TurnCountsIntoOffsets(shared.unit_offsets, kUnitBuckets);
    *plan.header = {};
    plan.header->next_unit = plan.num_pairs;
    plan.header->num_units = shared.unit_offsets[kUnitBuckets];
    plan.header->num_tiles = plan.prefill_starts[p.num_seqs];
    plan.header->num_folds = shared.folds;
    plan.header->num_long_folds = shared.long_folds;
  }
  __syncthreads();
  for (int32_t tile = threadIdx.x / 32; tile < num_rows; tile += kWarps) {
    WriteUnits(plan, plan.rows[tile], &shared);
  }
  PlanPrefills(p, plan, &shared);
}

}  // namespace

cudaError_t LaunchPlan(const AttentionParams& params, const AttentionPlan& plan,
                       cudaStream_t stream) {
  PlanKernel<<<1, kThreads, 0, stream>>>(params, plan);
  return cudaGetLastError();
}

}  // namespace quire::attention
