// SPDX-License-Identifier: Apache-2.0
//
// One rank at work: owns the device, the group, the model and its cache, the
// slots and the sampler, and runs step plans with them.
#ifndef WORKER_EXECUTOR_EXECUTOR_H_
#define WORKER_EXECUTOR_EXECUTOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/batch/input_builder.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/executor/idle_times.h"
#include "worker/executor/rank_links.h"
#include "worker/executor/step_recordings.h"
#include "worker/kv/kv_store.h"
#include "worker/kv/row_shape.h"
#include "worker/model/model.h"
#include "worker/sampler/device_chooser.h"
#include "worker/sampler/group_choice.h"
#include "worker/sampler/group_logprobs.h"
#include "worker/sampler/listed_choice.h"
#include "worker/sampler/nucleus_choice.h"
#include "worker/sampler/prompt_scorer.h"
#include "worker/sampler/sampler.h"
#include "worker/sampler/seen_counts.h"
#include "worker/sampler/shard_edits.h"
#include "worker/sampler/whole_rows.h"

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
  // Decodes and short prompts are recorded when the cache is allocated
  // (Backend::Record) and padded to the sizes that were; steps of all sizes are
  // warmed up.
  bool records_decodes = false;
  // Whether the devices of a group choose tokens among themselves, so that
  // steps run ahead; else its hosts do. Not asked of a rank alone.
  bool chooses_in_group = true;
  // The device chooses tokens of rows that are not plain, too, where it can
  // (Backend::chooses_shaped): in a group each device the same, if it chooses
  // at all.
  bool device_sampling = false;
};

struct MemoryProfile {
  int64_t kv_bytes = 0;     // that may hold KV blocks
  int64_t block_bytes = 0;  // of one
  int32_t block_tokens = 0;
  int64_t weight_bytes = 0;
  int64_t activation_bytes = 0;
  absl::Duration largest_step;
  int64_t swap_bytes_per_second = 0;  // see MeasureSwap; 0: unknown
  RankLinks links;
};

// Thread-compatible. The executor thread is the sole caller, of its parts too,
// but for Finish() and CheckDevice(): another may call them in its place, while
// that calls nothing. All ranks of a group make the same calls in the same
// order, as each holds collective operations.
class Executor {
 public:
  // `clock` must live longer. LostDevice() says of a failure whether the device
  // was lost.
  static absl::StatusOr<std::unique_ptr<Executor>> Create(ExecutorParts parts,
                                                          const Clock* clock);
  ~Executor();

  // Runs the largest step and says what memory is left for the cache.
  // ResourceExhausted if none is.
  absl::StatusOr<MemoryProfile> Profile(double memory_utilization);

  // Allocates the cache; once. ResourceExhausted if it does not fit.
  absl::Status AllocateKv(int32_t num_blocks, int32_t num_host_blocks);

  // Applies the plan and runs its slices. `result` is overwritten, step_us
  // apart; the tokens are rank 0's to report. Internal if the plan contradicts
  // this rank's state, Unavailable if a peer is lost; afterwards the state is
  // undefined. REQUIRES: AllocateKv succeeded, no step is begun.
  //
  // Allocates, once warm: when a slot's token list doubles, when a plan admits,
  // and what Collective, Sampler and TokenCounts say of themselves.
  absl::Status Step(const StepPlan& plan, StepResult* result);

  // Step() in two parts. Begin() applies the plan and enqueues its work behind
  // that of the step before, whose tokens need not be known: those are taken
  // where the device put them. Finish() waits for the step that was begun first
  // and writes its result. REQUIRES of Begin(): MayBegin(plan). Whatever fails,
  // steps that were begun earlier may be finished.
  absl::Status Begin(const StepPlan& plan);
  absl::Status Finish(StepResult* result);

  // Whether Begin() may be called before the steps that are begun are finished.
  bool MayBegin(const StepPlan& plan) const;
  int32_t num_begun() const { return static_cast<int32_t>(flights_.size()); }
  // Whether begun steps run while the caller does something else.
  bool is_asynchronous() const { return parts_.backend->is_asynchronous(); }

  // Returns when the step that was begun last has run, or why it cannot. Unlike
  // all else, any thread may call what this returns.
  std::function<absl::Status()> Waiter() const;

  // After a failure: OK, or why the device can do nothing any more.
  absl::Status CheckDevice() { return parts_.backend->Synchronize(); }

  // Between steps, where the backend measures it.
  const IdleTimes& idle_times() const { return idle_times_; }
  // See Backend.
  std::vector<OperationTime> TakeOperationTimes() {
    return parts_.backend->TakeOperationTimes();
  }

  // Tokens of a block, or of a page group.
  int32_t block_tokens() const;
  bool has_kv() const { return kv_ != nullptr; }

 private:
  // A step that is begun and not finished.
  struct Flight {
    StepIdentity identity;
    uint64_t table_digest = 0;
    int32_t mark = 0;
    bool has_begun_mark = false;  // it has slices, and the step before a mark
    // Of its tokens: where those go that the device chooses. Else the host
    // chose, and they are known.
    std::vector<UnknownToken> unknown;
    SampledTokens sampled;
    std::vector<PromptLogprobs> prompt_logprobs;
  };
  // Inputs and tokens that may be on their way at once.
  static constexpr int32_t kMaxFlights = InputBuilder::kMaxInFlight;
  static_assert(kMaxFlights < Backend::kNumMarks);
  static_assert(kMaxFlights - 1 <= KvStore::kMaxRunning);
  // A flight's mark says which of kMaxFlights places is its own.
  static_assert(Backend::kNumMarks % kMaxFlights == 0);
  static_assert(kMaxFlights <= DeviceChooser::kMaxFlights);
  static_assert(kMaxFlights <= SeenCounts::kMaxFlights);
  static_assert(kMaxFlights <= ListedChoice::kMaxFlights);
  static_assert(kMaxFlights <= NucleusChoice::kMaxFlights);
  static_assert(kMaxFlights <= ShardEdits::kMaxFlights);
  static_assert(kMaxFlights <= GroupLogprobs::kMaxFlights);

  Executor(ExecutorParts parts, const Clock* clock);

  absl::Status CreateSamplers();
  absl::Status CreateChooser();
  absl::Status AllocateTokens();
  // Records steps, and warms up those that are not recorded.
  absl::Status PrepareSteps();
  // The model's work and, if `chooses`, the choice of tokens; yields the
  // logits.
  absl::StatusOr<const float*> Enqueue(const BatchInput& batch, bool chooses);
  // The tokens of the logits' rows, of all ranks' shards.
  absl::Status EnqueueChoice(const float* logits, const BatchInput& batch);
  absl::StatusOr<const float*> EnqueueSlices(const StepPlan& plan,
                                             bool chooses);
  // The log probabilities of the prompt tokens that the last input asks for, as
  // many at a time as the logits have rows. REQUIRES: what sampled is done.
  absl::Status ScorePrompts(std::vector<PromptLogprobs>* out);
  bool MayChooseOnDevice() const {
    return parts_.collective->world_size() == 1 || parts_.chooses_in_group;
  }
  // Whether the device alone chooses tokens as these parameters say.
  bool IsChosenOnDevice(const SlotSampling& sampling) const;
  bool IsChosenOnDevice(const StepPlan& plan) const;
  // Whether chunks of the plan may hold prompt tokens to score.
  bool ScoresPrompts(const StepPlan& plan) const;
  // Before the step of that mark, which has run.
  void NoteIdleness(int32_t mark);
  // Enqueues the choice of what Enqueue() did not choose, and the way back of
  // the step's tokens.
  absl::Status EnqueueResults(const float* logits, const Flight& flight);
  // Of that, what a group's devices choose from their shards of the logits,
  // some of which are edited meanwhile; then from rows that are gathered whole.
  absl::Status EnqueueGroupChoices(float* logits, int32_t flight);
  // The tokens of a step that has run, from where the device put them.
  absl::Status ReadTokens(Flight* flight);

  // REQUIRES: the cache is virtual.
  RowShape row_shape() const;
  absl::StatusOr<std::unique_ptr<KvStore>> CreateKv(int32_t num_blocks,
                                                    int32_t num_host_blocks);

  ExecutorParts parts_;
  const Clock* const clock_;
  std::unique_ptr<Sampler> sampler_;
  std::unique_ptr<PromptScorer> scorer_;
  const int32_t* prompt_rows_ = nullptr;  // of the last input
  // Null: the host chooses.
  std::unique_ptr<SeenCounts> seen_counts_;
  std::unique_ptr<DeviceChooser> chooser_;
  // Of a group that has a chooser.
  std::unique_ptr<ShardEdits> shard_edits_;
  std::unique_ptr<ListedChoice> listed_choice_;
  std::unique_ptr<NucleusChoice> nucleus_choice_;
  std::unique_ptr<WholeRows> whole_rows_;
  std::unique_ptr<GroupLogprobs> group_logprobs_;
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<SlotStates> slots_;
  std::unique_ptr<InputBuilder> builder_;
  std::unique_ptr<StepRecordings> recordings_;   // null: none
  std::unique_ptr<DeviceBuffer> device_tokens_;  // [max_num_seqs]
  std::unique_ptr<DeviceBuffer> host_tokens_[kMaxFlights];
  std::unique_ptr<DeviceBuffer> all_tokens_;   // a WordRun, for the way back
  std::unique_ptr<GroupChoice> group_choice_;  // of a group
  std::deque<Flight> flights_;  // in the order of their beginning
  std::vector<Flight> landed_;  // to be used again, for their vectors
  int32_t next_mark_ = 0;
  bool has_marks_ = false;  // a step has run
  IdleTimes idle_times_;
};

}  // namespace quire

#endif  // WORKER_EXECUTOR_EXECUTOR_H_
