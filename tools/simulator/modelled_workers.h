// SPDX-License-Identifier: Apache-2.0
//
// A worker group as a simulation needs it: mirrors lengths instead of tables,
// counts what a step costs, and makes up tokens. Plans are taken to be right;
// tests/fakes has a group that checks them.
//
// Tokens never end a sequence, and siblings' differ, or they would share what
// they generate when they come back from a preemption. Slots that ask for log
// probabilities get those of MakeCandidates, so that beams fork and end as a
// model's would.
#ifndef TOOLS_SIMULATOR_MODELLED_WORKERS_H_
#define TOOLS_SIMULATOR_MODELLED_WORKERS_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "tools/simulator/candidates.h"
#include "tools/simulator/cost_model.h"
#include "tools/simulator/workload.h"

namespace quire {

// What the slots hold between two steps, counted by sequence: what siblings
// share counts once for each.
struct SlotTotals {
  int64_t num_computed_tokens = 0;
  // That the sequences will still write to the room they have.
  int64_t num_future_tokens = 0;
  int64_t num_blocks = 0;
};

// Thread-compatible. A request's seed is its index in `requests`, so that its
// slots can be told.
class ModelledWorkers {
 public:
  // `requests` is borrowed.
  ModelledWorkers(const std::vector<SimulatedRequest>* requests,
                  int32_t max_num_seqs, int32_t block_size,
                  const CandidateOptions& candidates);

  // Runs the plan and fills in the tokens, log probabilities and work.
  void Run(const StepPlan& plan, StepResult* result, StepWork* work);

  const SlotTotals& totals() const { return totals_; }

 private:
  struct Slot {
    int32_t request_idx = 0;
    uint64_t seed = 0;  // of the sequence
    int32_t num_computed = 0;
    int32_t num_final = 0;   // computed tokens at the sequence's end
    int32_t num_blocks = 0;  // -1: a row, which has room for everything
    int32_t num_logprobs = -1;
    TokenId last_token = 0;    // sampled, not computed
    uint64_t prefix = 0;       // of all tokens but the last
    uint64_t last_prefix = 0;  // before the last of those joined
  };

  void Admit(const AdmittedSlot& admitted);
  void Fork(const SlotFork& fork);
  void Release(SlotId slot);
  // Adds what the slot counts for to the totals, `sign` times.
  void Count(const Slot& slot, int sign);
  void RunSlice(SlotId slot_id, int32_t num_tokens, bool sample, bool is_decode,
                StepResult* result, StepWork* work);
  int32_t RequestOf(uint64_t seed) const;

  const std::vector<SimulatedRequest>& requests_;
  const int32_t block_size_;
  const CandidateOptions candidates_;
  std::vector<Slot> slots_;
  SlotTotals totals_;
  absl::flat_hash_map<uint64_t, int32_t> siblings_;  // seed to request
};

}  // namespace quire

#endif  // TOOLS_SIMULATOR_MODELLED_WORKERS_H_
