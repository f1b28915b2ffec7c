// SPDX-License-Identifier: Apache-2.0
//
// Rows of logits that every rank's device has whole, from the ranks' shards of
// the vocabulary: what a device needs to choose by itself where shards do not
// decide, which is where top_k leaves more than lists hold (kMaxListed). All
// other rows need none of it: plain ones (ShardChoice), those of which top_k
// leaves few (ListedChoice) or top_p and min_p any number (NucleusChoice),
// edited, masked (ShardEdits) or not, and with log probabilities
// (GroupLogprobs).
#ifndef WORKER_SAMPLER_WHOLE_ROWS_H_
#define WORKER_SAMPLER_WHOLE_ROWS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "kernels/backend.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/sampler/device_chooser.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Allocates nothing
// after creation.
class WholeRows {
 public:
  // Every rank calls it. Takes 4 bytes of device memory for every row and
  // token, and some MiB. `backend` and `collective` must live longer.
  static absl::StatusOr<std::unique_ptr<WholeRows>> Create(
      Backend* backend, Collective* collective, VocabShard vocab,
      int32_t max_num_seqs);

  int32_t num_vocab() const { return num_vocab_; }

  // Enqueues that row i of rows() is whole if `reader` reads slots[i]; others
  // may hold anything. `logits` is this rank's shard of each, [slots,
  // vocab.num_ids]. Every rank calls it, with the same slots.
  absl::Status Gather(const float* logits, absl::Span<const SlotId> slots,
                      const SlotStates& states, const DeviceChooser& reader);

  // [max_num_seqs, num_vocab()] in device memory; may be written to.
  float* rows() const { return rows_->as<float>(); }

 private:
  WholeRows(Backend* backend, Collective* collective, VocabShard vocab);

  absl::Status Allocate(int32_t max_num_seqs);
  absl::Status SendRuns();
  // The runs that put `num_rows` gathered rows, and of those that pack them.
  void AddRuns(int32_t num_rows);
  absl::Status GatherPiece(const float* logits, int32_t first_row,
                           int32_t num_rows);

  // Runs of a piece of so many rows.
  struct Table {
    int32_t first_put, num_puts;
    int32_t first_pack, num_packs;
  };

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  std::vector<int32_t> shard_sizes_;  // [world_size] columns
  int32_t max_shard_size_ = 0;
  int32_t num_vocab_ = 0;
  int32_t piece_rows_ = 0;
  std::vector<WordRun> runs_;
  std::vector<Table> tables_;  // [1 + piece_rows_]
  std::unique_ptr<DeviceBuffer> device_runs_;
  std::unique_ptr<DeviceBuffer> packed_;    // of a shard that is no widest one
  std::unique_ptr<DeviceBuffer> gathered_;  // [world_size, rows, widest shard]
  std::unique_ptr<DeviceBuffer> rows_;
};

}  // namespace quire

#endif  // WORKER_SAMPLER_WHOLE_ROWS_H_
