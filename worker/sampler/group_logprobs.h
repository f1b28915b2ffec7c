// SPDX-License-Identifier: Apache-2.0
//
// Log probabilities of tokens that the devices of a group have chosen, without
// their hosts: of each row ranks exchange what their shards of the vocabulary
// sum up to and their largest tokens, 20 bytes and 8 for each of those, in
// place of logits.
#ifndef WORKER_SAMPLER_GROUP_LOGPROBS_H_
#define WORKER_SAMPLER_GROUP_LOGPROBS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "kernels/shard_logprobs.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/sampler/logprob_flights.h"
#include "worker/sampler/step_input.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Allocates nothing
// after creation but what Backend::TakeShardLogprobs() does and Read() appends.
class GroupLogprobs {
 public:
  // Takes some KiB of device memory for every row. `backend` and `collective`
  // must live longer. REQUIRES: backend->chooses_shaped().
  static absl::StatusOr<std::unique_ptr<GroupLogprobs>> Create(
      Backend* backend, Collective* collective, VocabShard vocab,
      int32_t max_num_seqs);

  // Steps whose log probabilities may be on their way at once.
  static constexpr int32_t kMaxFlights = LogprobFlights::kMaxFlights;

  // Enqueues the log probabilities of all rows that want them, and nothing if
  // none does. Row i of `logits` is this rank's shard of slots[i]'s as the
  // model gave it, [slots, vocab.num_ids], and tokens[i] its token. Every rank
  // calls it, with the same slots, and gets the same. REQUIRES: the flight's
  // last step has run.
  absl::Status Enqueue(const float* logits, absl::Span<const SlotId> slots,
                       const SlotStates& states, int32_t flight,
                       const int32_t* tokens);

  // Appends those of a flight whose step has run.
  void Read(int32_t flight, std::vector<SampledLogprobs>* out) const {
    flights_.Read(flight, out);
  }

 private:
  GroupLogprobs(Backend* backend, Collective* collective, VocabShard vocab)
      : backend_(backend),
        collective_(collective),
        vocab_(vocab),
        input_(backend),
        flights_(backend) {}

  // Makes rows_ the step's; yields their largest num_top.
  int32_t Collect(absl::Span<const SlotId> slots, const SlotStates& states);

  // What this rank says in the stage reaches all ranks.
  absl::Status Say(LogprobStage stage, ShardLogprobsParams params,
                   DeviceBuffer* heard);

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  std::vector<LogprobRow> rows_;  // of the step at work
  StepInput input_;
  LogprobFlights flights_;
  std::unique_ptr<DeviceBuffer> said_;    // in either stage
  std::unique_ptr<DeviceBuffer> chosen_;  // [world_size, rows] floats
  std::unique_ptr<DeviceBuffer> sums_;    // [world_size, rows] of kSums
};

}  // namespace quire

#endif  // WORKER_SAMPLER_GROUP_LOGPROBS_H_
