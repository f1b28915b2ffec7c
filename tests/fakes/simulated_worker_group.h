// SPDX-License-Identifier: Apache-2.0
//
// A worker group without workers: runs step plans as real ranks must, checks
// every rule of common/step_plan.h while it does, and samples tokens that are a
// pure function of the sequence, so that what a stream must be is known
// without running it.
#ifndef TESTS_FAKES_SIMULATED_WORKER_GROUP_H_
#define TESTS_FAKES_SIMULATED_WORKER_GROUP_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/step_plan.h"
#include "coordinator/dispatch/dispatcher.h"
#include "tests/fakes/simulated_model.h"

namespace quire {

struct SimulatedGroupOptions {
  int32_t num_blocks = 64;
  int32_t block_size = 16;  // tokens of a block, or of a page group
  int32_t max_num_seqs = 64;
  int32_t num_host_blocks = 0;
  double swap_blocks_per_second = 0;
  double prefill_tokens_per_second = 0;
  // Tokens that attention looks back on; 0: all. Blocks behind them may be
  // anyone's.
  int32_t sliding_window = 0;
  // Rows of virtual memory, whose page groups are what num_blocks counts.
  bool has_rows = false;
};

// Thread-safe. Plans run inside Send(); their results wait until they are taken
// or delivered, so a test chooses how far the engine runs ahead.
class SimulatedWorkerGroup final : public Dispatcher {
 public:
  explicit SimulatedWorkerGroup(const SimulatedGroupOptions& options);

  // A new life without slots; results not taken are lost. Returns what to tell
  // the engine.
  GroupReady Begin(uint64_t group_epoch);

  // From now on each result is delivered to `listener` before Send() returns.
  // Null: they wait again. Borrowed.
  void DeliverTo(DispatchListener* listener);

  void Send(const StepPlan& plan) override;

  // The oldest result not taken yet.
  std::optional<StepResult> TakeResult();

  // The next plan's table digest comes back wrong.
  void CorruptNextDigest();

  // The first rule that a plan broke, or OK.
  absl::Status status() const;

  int64_t num_plans() const;
  int64_t num_resyncs() const;
  int64_t num_swaps() const;  // blocks, either way
  int32_t num_live_slots() const;

 private:
  // What a position's keys and values stand for. 0: never written.
  using KvValue = uint64_t;

  struct Slot {
    bool live = false;
    SequenceId sequence_id;
    std::vector<TokenId> tokens;
    int32_t num_prompt_tokens = 0;
    int32_t num_computed = 0;
    StepId admitted_by;
    SlotSampling sampling;
    std::vector<uint32_t> mask;  // of this step; empty: none
    std::vector<BlockId> table;
    int32_t num_dropped = 0;        // entries that the window has left behind
    std::optional<CacheRowId> row;  // in place of a table
    std::vector<KvValue> written;   // [num_computed] what must be in the cache
  };

  void ScorePrompt(const Slot& slot, int32_t num_tokens, StepResult* result);
  void Fail(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Slot* At(SlotId slot, bool live) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Clear() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(SlotId slot_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fork(const SlotFork& fork) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetNextToken(const NextToken& next)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Admit(const AdmittedSlot& admitted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Hold(SlotId slot_id, int32_t logical_idx, BlockId block)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(SlotId slot_id, int32_t logical_idx, BlockId block)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first position that the slot's next token sees.
  int32_t FirstSeen(const Slot& slot) const {
    return options_.sliding_window == 0
               ? 0
               : std::max(0, slot.num_computed + 1 - options_.sliding_window);
  }
  // Holds no more what the slot's window has left behind.
  void LeaveBehind(Slot* slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int32_t NumFinders(BlockId block) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeRow(SlotId slot_id, CacheRowId row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MapRows(const StepPlan& plan) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wipe(BlockId block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplyTables(const StepPlan& plan) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplySwapOuts(const StepPlan& plan)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Where a block's values begin, or null if there is no such block.
  KvValue* BlockBegin(BlockId block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  KvValue* BlockBegin(HostBlockId block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplyCopies(const StepPlan& plan) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunSlice(const Slice& slice, bool is_decode, StepResult* result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsExpected(const Slot* writer, int32_t position, KvValue value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  KvValue* Kv(const Slot& slot, int32_t position)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckIdentity(const StepIdentity& identity)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SimulatedGroupOptions options_;

  mutable absl::Mutex mutex_;
  StepIdentity last_step_ ABSL_GUARDED_BY(mutex_);
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  std::vector<KvValue> cache_ ABSL_GUARDED_BY(mutex_);
  std::vector<KvValue> host_cache_ ABSL_GUARDED_BY(mutex_);
  std::vector<int32_t> num_holders_ ABSL_GUARDED_BY(mutex_);  // [num_blocks]
  // By row: what lies in its memory, block_size values a page group.
  std::vector<std::vector<KvValue>> rows_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> row_is_held_ ABSL_GUARDED_BY(mutex_);
  std::vector<bool> ran_ ABSL_GUARDED_BY(mutex_);  // slots, in this step
  TableDigest digest_ ABSL_GUARDED_BY(mutex_);
  bool corrupt_next_ ABSL_GUARDED_BY(mutex_) = false;
  DispatchListener* listener_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::deque<StepResult> results_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int64_t num_plans_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_resyncs_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_swaps_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace quire

#endif  // TESTS_FAKES_SIMULATED_WORKER_GROUP_H_
