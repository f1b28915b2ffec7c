// SPDX-License-Identifier: Apache-2.0
//
// Logits to tokens, together with the other ranks: each reduces its own columns
// to summaries and a few candidates, the ranks exchange those, and every rank
// merges them to the same tokens.
#ifndef WORKER_SAMPLER_SAMPLER_H_
#define WORKER_SAMPLER_SAMPLER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/sampler/merge.h"

namespace quire {

// What one step sampled, the same on every rank.
struct SampledTokens {
  std::vector<TokenId> tokens;            // one per row
  std::vector<SampledLogprobs> logprobs;  // of rows that asked, by sample_idx
};

// Thread-compatible; the executor thread is the sole caller. A step allocates
// only for logprobs, and when a row's filters reach beyond the widest exchange
// so far: then the buffers grow, at most to the vocabulary.
class Sampler {
 public:
  // Every rank calls it. `backend` and `collective` must live longer.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(Backend* backend,
                                                         Collective* collective,
                                                         VocabShard vocab,
                                                         int32_t max_num_seqs);

  // Chooses the next token of every slot; row i of `logits` [slots,
  // vocab.num_ids] (device memory) is slots[i]'s. Every rank calls it with the
  // same slots. Internal names the slot whose logits cannot be sampled.
  //
  // Where bad words and the stop tokens of min_tokens would leave a row no
  // token, they are not held against it.
  absl::Status Sample(const float* logits, absl::Span<const SlotId> slots,
                      const SlotStates& states, SampledTokens* out);

 private:
  Sampler(Backend* backend, Collective* collective, VocabShard vocab,
          int32_t max_num_seqs);

  // What the first exchange yields, and a row's share of it.
  struct RowState {
    const Slot* slot;
    int32_t packed_idx;  // among the rows whose candidates travel, or -1
    bool is_plain;       // nothing changes its logits
    ChosenToken chosen;
  };

  // Decides one row from the shards' word; false: needs more candidates.
  using Decide = absl::FunctionRef<absl::StatusOr<bool>(
      int32_t row_idx, absl::Span<const ShardRow> shards)>;

  absl::Status Init();
  absl::Status Reserve(int64_t bytes);
  void BuildRows(absl::Span<const SlotId> slots, const SlotStates& states);
  // Of a row: fills masked_ from its slot's bad words and stop tokens.
  void MaskTokens(const Slot& slot, SampleRow* row);
  // Takes the masks off rows that they leave no token. False: there are none.
  bool RelaxRows();
  absl::Status RunShard(const float* logits, int32_t num_candidates);
  absl::Status ExchangeFirst(int32_t num_candidates);
  absl::Span<const ShardRow> FirstShards(int32_t row_idx);

  // Exchanges ever more candidates of the rows in pending_ until `decide` is
  // satisfied with each. `is_neutral`: of the raw logits.
  absl::Status Widen(const float* logits, bool is_neutral, int64_t first_width,
                     Decide decide);
  absl::Status ExchangeMore(const float* logits, bool is_neutral,
                            absl::Span<const int32_t> row_idxs, int32_t width);

  absl::Status ChooseAll(const float* logits);
  absl::Status FillAllLogprobs(const float* logits, SampledTokens* out);
  absl::Status NameSlot(int32_t row_idx, const absl::Status& status) const;

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  const int32_t max_num_seqs_;
  std::vector<int32_t> shard_sizes_;  // [world_size] columns
  int32_t max_shard_size_ = 0;

  std::unique_ptr<DeviceBuffer> row_buffer_;  // [max_num_seqs] SampleRow
  std::unique_ptr<DeviceBuffer> summaries_;   // [max_num_seqs] ShardSummary
  std::unique_ptr<DeviceBuffer> candidates_;  // as many as a call wants
  std::unique_ptr<DeviceBuffer> sent_;        // packed for the exchange
  std::unique_ptr<DeviceBuffer> gathered_first_;
  std::unique_ptr<DeviceBuffer> gathered_more_;

  // Of the step at work.
  absl::Span<const SlotId> slots_;
  std::vector<RowState> rows_;
  std::vector<int32_t> masked_;  // of all rows
  std::vector<int32_t> pending_;
  std::vector<int32_t> still_pending_;
  std::vector<ShardRow> shards_;  // [world_size]
  std::vector<Candidate> kept_;
  int32_t num_packed_ = 0;
  int32_t first_width_ = 0;
  int64_t first_bytes_ = 0;  // of one rank's message
};

}  // namespace quire

#endif  // WORKER_SAMPLER_SAMPLER_H_
