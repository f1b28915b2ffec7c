// SPDX-License-Identifier: Apache-2.0
//
// Tokens that the device chooses by itself from rows that are not plain: what
// they ask for goes there, tokens are counted there, and only results come
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

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Buffers grow to
// the largest step; else a step allocates only for log probabilities.
class DeviceChooser {
 public:
  // For rows of the whole vocabulary, `num_vocab` columns; if `is_group`, not
  // for those that ranks choose from without them (ListedChoice,
  // NucleusChoice). Takes, for counts, 8 bytes of device memory for every slot
  // and token that it may hold. `backend` must live longer.
  // REQUIRES: backend->chooses_shaped().
  static absl::StatusOr<std::unique_ptr<DeviceChooser>> Create(
      Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
      int32_t max_model_len, bool is_group);

  // Whether it does, of rows that ask for this.
  static bool CanChoose(const SlotSampling& sampling);

  // Whether it looks at the logits of the slot's row.
  bool Reads(const Slot& slot) const;

  // Steps whose results may be on their way at once.
  static constexpr int32_t kMaxFlights = 2;

  // Enqueues the choice of all rows that are not plain, nor left, and the log
  // probabilities that rows want. Row i of `logits` [slots, num_vocab] is
  // slots[i]'s, if it is read, and tokens[i] its token; plain rows have theirs.
  // Of slots that are penalised, tokens that are not known yet are those that
  // the device chose here. REQUIRES: the flight's last step has run.
  absl::Status Enqueue(float* logits, absl::Span<const SlotId> slots,
                       const SlotStates& states, int32_t flight,
                       int32_t* tokens, int32_t* by_slot);

  // Tokens of these slots were chosen elsewhere.
  void Forget(absl::Span<const SlotId> slots);

  // Appends the log probabilities of a flight whose step has run.
  void ReadLogprobs(int32_t flight, std::vector<SampledLogprobs>* out) const;

 private:
  DeviceChooser(Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
                int32_t max_model_len, bool is_group);

  struct Wish {
    int32_t sample_idx;
    int32_t num_top;
  };
  struct Flight {
    std::unique_ptr<DeviceBuffer> input;  // pinned
    std::unique_ptr<DeviceBuffer> logprobs;
    std::vector<Wish> wishes;
  };
  // Where the parts of the input begin, in bytes.
  struct Sections {
    int64_t edits, rows, wishes, biases, masked, allowed, end;
  };

  bool IsLeft(const Slot& slot) const;
  // Collects what the rows ask for; false: nothing.
  bool Collect(absl::Span<const SlotId> slots, const SlotStates& states);
  void AddRow(int32_t row, SlotId slot_id, const Slot& slot);
  void AddEdit(int32_t row, SlotId slot_id, const Slot& slot,
               const ShapedRow& shaped);
  Sections SectionsOf() const;
  absl::Status Reserve(const Sections& sections, Flight* flight);
  void Fill(const Sections& sections, char* base) const;
  // Counts of slots whose sequence or tokens the device does not know.
  absl::Status SendCounts(absl::Span<const SlotId> slots,
                          const SlotStates& states, int64_t begin,
                          Flight* flight);

  Backend* const backend_;
  const int32_t num_vocab_;
  const bool is_group_;
  const int32_t max_listed_;            // tokens that a slot may have seen
  std::unique_ptr<DeviceBuffer> seen_;  // [max_num_seqs, 2 + max_listed_]
  std::vector<uint64_t> known_counts_;  // [max_num_seqs] Slot::counts_version
  std::unique_ptr<DeviceBuffer> input_, saved_, logprobs_;
  Flight flights_[kMaxFlights];

  // Of the step at work.
  std::vector<EditRow> edits_;
  std::vector<ShapedRow> unfiltered_, filtered_;
  std::vector<LogprobRow> wishes_;
  std::vector<TokenBias> biases_;
  std::vector<int32_t> masked_;
  std::vector<uint32_t> allowed_;
  int64_t num_saved_ = 0;
  int64_t count_bytes_ = 0;  // that SendCounts may send
};

}  // namespace quire

#endif  // WORKER_SAMPLER_DEVICE_CHOOSER_H_
