// SPDX-License-Identifier: Apache-2.0
//
// The choice of tokens by the devices of a group, without their hosts, from
// rows that top_p or min_p cut and top_k does not: ranks exchange what their
// shards of the vocabulary weigh in place of logits, some 6 KiB a row.
#ifndef WORKER_SAMPLER_NUCLEUS_CHOICE_H_
#define WORKER_SAMPLER_NUCLEUS_CHOICE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "kernels/backend.h"
#include "kernels/nucleus_choice.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Allocates nothing
// after creation but what Backend::ChooseFromNuclei() does.
class NucleusChoice {
 public:
  // Takes some 2 KiB of device memory for every row, and some MiB. `backend`
  // and `collective` must live longer. REQUIRES: backend->chooses_shaped().
  static absl::StatusOr<std::unique_ptr<NucleusChoice>> Create(
      Backend* backend, Collective* collective, VocabShard vocab,
      int32_t max_num_seqs);

  // Steps whose rows may be on their way at once.
  static constexpr int32_t kMaxFlights = 2;

  // Enqueues the choice of all rows for which IsNucleusRow() holds, and nothing
  // if there are none. Row i of `logits` is this rank's shard of slots[i]'s,
  // [slots, vocab.num_ids], and tokens[i] its token. Every rank calls it, with
  // the same slots, and gets the same tokens.
  // REQUIRES: the flight's last step has run.
  absl::Status Enqueue(const float* logits, absl::Span<const SlotId> slots,
                       const SlotStates& states, int32_t flight,
                       int32_t* tokens, int32_t* by_slot);

 private:
  NucleusChoice(Backend* backend, Collective* collective, VocabShard vocab)
      : backend_(backend), collective_(collective), vocab_(vocab) {}

  // All stages of params.num_rows rows.
  absl::Status RunStages(NucleusParams params);

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  int32_t max_piece_rows_ = 0;
  std::vector<ShapedRow> rows_;                           // of the step at work
  std::unique_ptr<DeviceBuffer> host_rows_[kMaxFlights];  // pinned
  std::unique_ptr<DeviceBuffer> device_rows_;  // [max_num_seqs] ShapedRow
  std::unique_ptr<DeviceBuffer> states_;       // [stages, rows of a piece]
  std::unique_ptr<DeviceBuffer> own_;  // [rows of a piece, most of a stage]
  std::unique_ptr<DeviceBuffer> all_;  // [world_size, as many of own_]
};

}  // namespace quire

#endif  // WORKER_SAMPLER_NUCLEUS_CHOICE_H_
