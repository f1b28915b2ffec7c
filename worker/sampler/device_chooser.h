// SPDX-License-Identifier: Apache-2.0
//
// Tokens that the device chooses by itself from whole rows that are not plain:
// what they ask for goes there, tokens are counted there, and only results come
// back. The tokens are those of Sampler.
#ifndef WORKER_SAMPLER_DEVICE_CHOOSER_H_
#define WORKER_SAMPLER_DEVICE_CHOOSER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/batch/slot_state.h"
#include "worker/sampler/logprob_flights.h"
#include "worker/sampler/seen_counts.h"
#include "worker/sampler/shaped_row.h"
#include "worker/sampler/step_input.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Buffers grow to
// the largest step; else a step allocates only for log probabilities.
class DeviceChooser {
 public:
  // For rows of the whole vocabulary, `num_vocab` columns; if `is_group`, not
  // for those that ranks choose from without them (ListedChoice, NucleusChoice,
  // ShardEdits), and without log probabilities (GroupLogprobs). `backend` and
  // `seen` must live longer.
  // REQUIRES: backend->chooses_shaped().
  static absl::StatusOr<std::unique_ptr<DeviceChooser>> Create(
      Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
      const SeenCounts* seen, bool is_group);

  // Whether it does, of rows that ask for this.
  static bool CanChoose(const SlotSampling& sampling);

  // Whether it looks at the logits of the slot's row.
  bool Reads(const Slot& slot) const;

  // Steps whose results may be on their way at once.
  static constexpr int32_t kMaxFlights = LogprobFlights::kMaxFlights;

  // Enqueues the choice of all rows that are not plain, nor left, and the log
  // probabilities that rows want. Row i of `logits` [slots, num_vocab] is
  // slots[i]'s, if it is read, and tokens[i] its token; plain rows have theirs.
  // Of slots that are penalised, tokens that are not known yet are those that
  // the device chose. REQUIRES: the flight's last step has run, the slots'
  // counts are sent.
  absl::Status Enqueue(float* logits, absl::Span<const SlotId> slots,
                       const SlotStates& states, int32_t flight,
                       int32_t* tokens, int32_t* by_slot);

  // Appends the log probabilities of a flight whose step has run.
  void ReadLogprobs(int32_t flight, std::vector<SampledLogprobs>* out) const {
    logprobs_.Read(flight, out);
  }

 private:
  DeviceChooser(Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
                const SeenCounts* seen, bool is_group);

  bool IsLeft(const Slot& slot) const;
  // Whether it is to say the log probability of the slot's token.
  bool WantsLogprobs(const Slot& slot) const;
  // Collects what the rows ask for; false: nothing.
  bool Collect(absl::Span<const SlotId> slots, const SlotStates& states);
  void AddRow(int32_t row, SlotId slot_id, const Slot& slot);
  // Sends it, and says where it is.
  absl::StatusOr<ShapedChoiceParams> Send(int32_t flight);

  Backend* const backend_;
  const int32_t num_vocab_;
  const bool is_group_;
  const SeenCounts* const seen_;
  StepInput input_;
  std::unique_ptr<DeviceBuffer> saved_;
  LogprobFlights logprobs_;

  // Of the step at work.
  std::vector<EditRow> edits_;
  std::vector<ShapedRow> unfiltered_, filtered_;
  std::vector<LogprobRow> wishes_;
  EditLists lists_;
  int64_t num_saved_ = 0;
};

}  // namespace quire

#endif  // WORKER_SAMPLER_DEVICE_CHOOSER_H_
