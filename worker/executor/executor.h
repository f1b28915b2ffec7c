// SPDX-License-Identifier: Apache-2.0
//
// One rank at work: owns the device, the group, the model and its cache, the
// slots and the sampler, and runs step plans with them.
#ifndef WORKER_EXECUTOR_EXECUTOR_H_
#define WORKER_EXECUTOR_EXECUTOR_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/batch/input_builder.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/kv/kv_store.h"
#include "worker/kv/row_shape.h"
#include "worker/model/model.h"
#include "worker/sampler/sampler.h"

namespace quire {

// What an executor is made of. Later members use earlier ones.
struct ExecutorParts {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Collective> collective;
  std::unique_ptr<Model> model;
  StepLimits limits;
  int32_t block_size = 0;  // tokens
  // 0: the cache is blocks of block_size. Else it is rows of virtual memory on
  // pages of so many bytes, and what is called a block below is a page group.
  int64_t virtual_page_bytes = 0;
  int32_t vocab_size = 0;       // ids that a sequence may hold
  int32_t num_local_ranks = 1;  // that share the device's memory, this included
};

struct MemoryProfile {
  int64_t kv_bytes = 0;     // that may hold KV blocks
  int64_t block_bytes = 0;  // of one
  int32_t block_tokens = 0;
  int64_t weight_bytes = 0;
  int64_t activation_bytes = 0;
  absl::Duration largest_step;
  int64_t swap_bytes_per_second = 0;  // see MeasureSwap; 0: unknown
};

// Thread-compatible: the executor thread calls everything. All ranks of a group
// make the same calls in the same order, as each holds collective operations.
class Executor {
 public:
  // `clock` must live longer.
  static absl::StatusOr<std::unique_ptr<Executor>> Create(ExecutorParts parts,
                                                          const Clock* clock);

  // Runs the largest step and says what memory is left for the cache.
  // ResourceExhausted if none is.
  absl::StatusOr<MemoryProfile> Profile(double memory_utilization);

  // Allocates the cache; once. ResourceExhausted if it does not fit.
  absl::Status AllocateKv(int32_t num_blocks, int32_t num_host_blocks);

  // Applies the plan and runs its slices. `result` is overwritten, step_us
  // apart; the tokens are rank 0's to report. Internal if the plan contradicts
  // this rank's state, Unavailable if a peer is lost; afterwards the state is
  // undefined. REQUIRES: AllocateKv succeeded.
  //
  // Allocates, once warm: when a slot's token list doubles, when a plan admits,
  // and what Collective, Sampler and TokenCounts say of themselves.
  absl::Status Step(const StepPlan& plan, StepResult* result);

  // Tokens of a block, or of a page group.
  int32_t block_tokens() const;
  bool has_kv() const { return kv_ != nullptr; }

 private:
  Executor(ExecutorParts parts, const Clock* clock);

  // REQUIRES: the cache is virtual.
  RowShape row_shape() const;
  absl::StatusOr<std::unique_ptr<KvStore>> CreateKv(int32_t num_blocks,
                                                    int32_t num_host_blocks);

  ExecutorParts parts_;
  const Clock* const clock_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<SlotStates> slots_;
  std::unique_ptr<InputBuilder> builder_;
  SampledTokens sampled_;
};

}  // namespace quire

#endif  // WORKER_EXECUTOR_EXECUTOR_H_
