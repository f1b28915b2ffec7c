// SPDX-License-Identifier: Apache-2.0
//
// How often sequences have seen each token, where the device looks for it and
// counts on: one and the same of a slot whether its row is chosen whole or from
// shards.
#ifndef WORKER_SAMPLER_SEEN_COUNTS_H_
#define WORKER_SAMPLER_SEEN_COUNTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "kernels/backend.h"
#include "kernels/shaped_choice.h"
#include "worker/batch/slot_state.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Allocates when a
// step sends more than any before, as many or long prompts do.
class SeenCounts {
 public:
  // Of a vocabulary of `num_vocab` tokens. Takes 8 bytes of device memory for
  // every slot and token that it may hold. `backend` must live longer.
  static absl::StatusOr<std::unique_ptr<SeenCounts>> Create(
      Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
      int32_t max_model_len);

  // Steps whose counts may be on their way at once.
  static constexpr int32_t kMaxFlights = 2;

  // Enqueues the counts of those slots that are penalised and whose sequence or
  // tokens the device does not know; from then on it counts what is chosen
  // (Backend::ChooseShaped, FinishEdits). REQUIRES: the flight's last step has
  // run.
  absl::Status Send(absl::Span<const SlotId> slots, const SlotStates& states,
                    int32_t flight);

  // Tokens of these slots were chosen elsewhere.
  void Forget(absl::Span<const SlotId> slots);

  // As EditLogitsParams has them.
  SeenToken* counts() const { return counts_->as<SeenToken>(); }
  int64_t stride() const { return 2 + max_listed_; }

 private:
  SeenCounts(Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
             int32_t max_model_len);

  Backend* const backend_;
  const int32_t max_listed_;              // tokens that a slot may have seen
  std::unique_ptr<DeviceBuffer> counts_;  // [max_num_seqs, stride()]
  std::vector<uint64_t> known_;           // [max_num_seqs] Slot::counts_version
  std::vector<SlotId> unknown_;           // of the step at work
  std::unique_ptr<DeviceBuffer> host_[kMaxFlights];  // pinned
};

}  // namespace quire

#endif  // WORKER_SAMPLER_SEEN_COUNTS_H_
