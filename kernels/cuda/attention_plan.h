// SPDX-License-Identifier: Apache-2.0
//
// The device's plan of a step's attention, made once and read by every layer.
//
// A row is one query head of one new token; rows of a sequence are numbered
// (token, head of the group), so that the heads that share keys are neighbours.
// A row's keys are cut by position alone:
//
//   tile   64 positions: one update of the online softmax
//   split  128 positions: one state (o, m, l), begun afresh
//   node   8 splits: their states folded in order of position, and then the
//          nodes' in order of position
//
// Whoever computes a row follows that order, so a row's bits depend on its
// query and keys alone: not on the batch, the chunk, the block size or on which
// kernel ran. What has no key for a row leaves its state as it was. Only the
// prefills of LaunchWgmmaPrefill, which determinism is not asked of, keep an
// order of their own, cut by position too.
#ifndef KERNELS_CUDA_ATTENTION_PLAN_H_
#define KERNELS_CUDA_ATTENTION_PLAN_H_

#include <cstdint>
#include <type_traits>

#include "cuda_runtime.h"
#include "kernels/attention.h"

namespace quire::attention {

constexpr int32_t kTile = 64;
constexpr int32_t kSplit = 128;
constexpr int32_t kNodeSplits = 8;
// A warp alone combines the splits of so many nodes of a row.
constexpr int32_t kFewNodes = 2;
// Columns of a left state that eight lanes fold, with m and l of their own.
constexpr int32_t kPartColumns = 32;
// Rows of a matrix instruction, the most of a decode tile.
constexpr int32_t kMmaRows = 16;
// Rows of a prefill tile.
constexpr int32_t kPrefillRows = 128;
// Sequences with more new tokens than this are prefills.
constexpr int32_t kMaxDecodeTokens = 4;

enum UnitKind : int32_t {
  kLeaf,    // one split, whose state is stored
  kFolded,  // the splits of one node, folded on the way
  kSerial,  // all splits of the rows, of more than one node
};

// A decode's work for one pair: up to kMmaRows rows of a sequence against some
// splits. Sixteen words, so that lanes fetch one each.
struct AttentionUnit {
  int32_t seq_slot;     // row of the block tables; negative: no more units
  int32_t query_start;  // the sequence's first new token
  int32_t position;     // of that token
  int32_t row_begin;
  int32_t num_rows;
  int32_t kv_begin;  // positions of this unit, [kv_begin, kv_end)
  int32_t kv_end;
  int32_t split_begin;  // splits of this unit
  int32_t split_end;
  int32_t rows_split_begin;  // splits of all units of these rows
  int32_t rows_split_end;
  int32_t kind;
  int32_t leaf_slot;  // of rows_split_begin, if kLeaf
  int32_t node_slot;  // of the first node, if there are several
  int32_t kv_head;    // filled in by whoever fetches the unit
  int32_t unused;
};

// Parts of a left state's row, and its floats: o, then m and l for each part.
constexpr int32_t NumParts(int32_t head_dim) {
  return (head_dim + kPartColumns - 1) / kPartColumns;
}
constexpr int32_t LeftRowFloats(int32_t head_dim) {
  return (head_dim + 2 * NumParts(head_dim) + 3) / 4 * 4;
}

// A prefill's work for one thread block, for each KV head.
struct PrefillTile {
  int32_t seq;
  int32_t row_begin;
};

struct AttentionPlanHeader {
  int32_t num_units;  // for each KV head
  int32_t next_unit;  // of all KV heads; the last pair to leave resets both
  int32_t warps_done;
  int32_t num_tiles;
  int32_t next_tile;
  int32_t blocks_done;
  int32_t num_folds;
  int32_t num_long_folds;
};

// Where things lie in the workspace. States that are left to others are
// [rows][LeftRowFloats] floats per slot and KV head, empty between launches;
// those that nobody else reads have rows of head_dim + 4: o, m, l and two of
// padding.
struct AttentionPlan {
  AttentionPlanHeader* header;
  int32_t* decode_starts;   // [num_seqs + 1] prefix sums of decode tiles
  int32_t* prefill_starts;  // [num_seqs + 1]
  AttentionUnit* rows;      // [decode tiles]
  AttentionUnit* units;     // [unit_capacity]
  PrefillTile* tiles;       // [tile_capacity]
  // [fold_capacity] indices of `rows` whose stored states are to be combined:
  // those of the splits of more than kFewNodes nodes from the end on backwards,
  // the others from the beginning on.
  int32_t* folds;
  float* leaf_states;   // [leaf_capacity, Hkv, state_floats]
  float* node_states;   // [node_capacity, Hkv, state_floats]
  float* warp_states;   // [decode pairs, 2, state_floats]
  float* block_states;  // [prefill blocks, 2, kPrefillRows, head_dim + 4]
  int32_t fold_capacity;
  int32_t leaf_capacity;
  int32_t node_capacity;
  int32_t unit_capacity;
  int32_t decode_rows;   // rows of a decode tile
  int32_t state_floats;  // decode_rows * LeftRowFloats(head_dim)
  int32_t num_pairs;     // of warps that run decodes, all at once
  int32_t num_blocks;    // that run prefills
  int32_t max_decode_tokens;
  // An earlier launch has read it: it and what it was made of are there.
  bool is_known;
  // So it is, and AttentionParams::are_contexts_apart.
  bool reads_early;
  // Prefills come right after what wrote the step's keys and values: no decodes
  // are launched, which would have waited for it.
  bool prefills_alone;
  // Of prefills' rows there are so few that each half of a tile of every KV
  // head finds a block that runs nothing else.
  bool has_few_rows;
  // Rows of head_dim elements from one block of the cache to the next.
  uint32_t block_rows;
  // position / block_size == __umulhi(position, block_factor) >> block_shift,
  // for block sizes beyond 1.
  uint32_t block_factor;
  int32_t block_shift;
};

// Plans `params`' step: which warp does what is decided as they go.
cudaError_t LaunchPlan(const AttentionParams& params, const AttentionPlan& plan,
                       cudaStream_t stream);

// Kernels for bfloat16 and head dims of 64, 80, 96, 128 and 256. Blocks of
// decodes wait for each other's states, so all have to run at once. REQUIRES:
// num_sms is not more than the device has; plan.num_pairs follows from it.
cudaError_t LaunchDecode(const AttentionParams& params,
                         const AttentionPlan& plan, int32_t num_sms,
                         cudaStream_t stream);
cudaError_t LaunchPrefill(const AttentionParams& params,
                          const AttentionPlan& plan, cudaStream_t stream);
// The same on Hopper's own matrix instructions, with sums in an order that is
// not the decodes'; whether the current device has them.
cudaError_t LaunchWgmmaPrefill(const AttentionParams& params,
                               const AttentionPlan& plan, cudaStream_t stream);
bool HasWgmma();
// Pairs of warps per multiprocessor that LaunchDecode runs.
int32_t DecodePairsPerSm();

// launch(std::integral_constant<int, head_dim>()) for those that the kernels of
// bfloat16 are compiled for.
template <typename Launch>
cudaError_t ForHeadDim(int32_t head_dim, const Launch& launch) {
  switch (head_dim) {
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 80:
      return launch(std::integral_constant<int, 80>());
    case 96:
      return launch(std::integral_constant<int, 96>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    case 256:
      return launch(std::integral_constant<int, 256>());
    default:
      return cudaErrorNotSupported;
  }
}

// For any head dim up to 256 and either dtype, without a plan: a thread block a
// row. Its own order of sums, as independent of the batch.
cudaError_t LaunchSimple(const AttentionParams& params, cudaStream_t stream);

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_PLAN_H_
