// SPDX-License-Identifier: Apache-2.0
//
// The engine as a state machine: events in, step plans and outputs out. No
// thread, no clock, no RPC: the engine loop, the simulator and a replay drive
// the same code, each with its own time.
//
// Lengths are planned ahead of values. RunningSequence counts tokens of steps
// whose results are not known; Sequence holds those that are. Blocks and slots
// of a sequence that ends come free at once and are in the next plan's
// `released`: workers run plans in order, so that plan may give them away.
//
// A group of several sequences computes its prompt once, in its first
// unfinished sequence; right after the plan with the prompt's last chunk is
// sealed the siblings fork from it, and the next plan carries the SlotForks
// (engine_forks.cc). Slots are kept for them from the group's admission on.
#ifndef COORDINATOR_ENGINE_ENGINE_CORE_H_
#define COORDINATOR_ENGINE_ENGINE_CORE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/engine/beam_group.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_metrics.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/moved_group.h"
#include "coordinator/engine/preemption_mode.h"
#include "coordinator/engine/sequence_group.h"
#include "coordinator/engine/step_estimator.h"
#include "coordinator/engine/waiting_room.h"
#include "coordinator/kv/kv_manager.h"
#include "coordinator/kv/prefix_summary.h"
#include "coordinator/scheduler/policy.h"

namespace quire {

// A request that has ended.
struct RequestEnd {
  RequestKey key;
  std::string request_id;
  int32_t num_output_tokens = 0;  // of all its sequences
};

// What has happened since it was last taken.
struct EngineEffects {
  std::vector<SequenceOutput> outputs;
  // Requests whose first token has come, or that run after they have moved.
  std::vector<RequestKey> begun;
  std::vector<RequestEnd> ended;
  // Requests, and tokens of their prompts, that no longer count as queued.
  int32_t num_left_queue = 0;
  int64_t num_tokens_left_queue = 0;
};

// Engine thread only: one thread at a time, whose turn it is (EngineLoop).
class EngineCore {
 public:
  // InvalidArgument if an option is out of range or a name unknown.
  // `prefixes`, borrowed and perhaps null, is told which prefixes there are.
  static absl::StatusOr<std::unique_ptr<EngineCore>> Create(
      const EngineOptions& options, PrefixSummary* prefixes = nullptr);
  ~EngineCore();

  // `request` was accepted by an Intake under `key`.
  void AddRequest(RequestKey key, EngineRequest request, absl::Time now);

  // See EngineClient::Finish.
  void FinishRequest(RequestKey key, FinishReason reason, absl::Time now);

  // See EngineClient::FinishSequence.
  void FinishSequence(RequestKey key, int32_t index, absl::Time now);

  // See EngineClient::SetMask.
  void SetMask(RequestKey key, int32_t index, int64_t num_outputs,
               TokenMask mask);

  // Ends every request with `status`.
  void EndAll(const absl::Status& status, absl::Time now);

  // All requests, for another engine, oldest first. REQUIRES: not is_ready().
  std::vector<MovedGroup> TakeAll(absl::Time now);
  // Takes one in, before all that wait here and are no more urgent: it has
  // waited elsewhere.
  void Adopt(MovedGroup moved, absl::Time now);
  bool Has(RequestKey key) const { return groups_.contains(key); }
  bool has_requests() const { return !groups_.empty(); }
  int32_t num_requests() const { return static_cast<int32_t>(groups_.size()); }

  // Internal if the group has a pool that no manager can work with.
  absl::Status OnGroupReady(const GroupReady& group, absl::Time now);
  // A result that cannot be its step's is the loss of the group.
  void OnStepResult(StepResult result, absl::Time now);
  // Requests that ran wait again, but for those that are taken for the reason.
  void OnGroupLost(Epoch group_epoch, const absl::Status& cause,
                   absl::Time now);

  // The next step, or null if there is nothing to run or the run-ahead depth
  // is reached. The caller sends what it gets. Valid until the next call.
  const StepPlan* Plan(absl::Time now);

  // When Plan() must be called although nothing happens.
  absl::Time NextDeadline() const;

  EngineEffects TakeEffects() { return std::exchange(effects_, {}); }
  EngineMetrics TakeMetrics();
  // What tenants were served and requests waited for. Apart from TakeMetrics,
  // because it costs a copy.
  void FillWaitMetrics(EngineMetrics* metrics) const {
    waiting_.FillMetrics(metrics);
  }
  EngineStats Stats() const;
  bool is_ready() const { return kv_ != nullptr; }
  // Why a group was lost or refused last; OK if none was.
  const absl::Status& loss() const { return loss_; }
  // Tokens of a block. REQUIRES: is_ready().
  int32_t block_size() const { return kv_->block_size(); }
  bool is_idle() const {
    return groups_.empty() && in_flight_.empty() && released_.empty();
  }
  int32_t num_in_flight() const {
    return static_cast<int32_t>(in_flight_.size());
  }
  // Why a request has waited; NotFound if it is not remembered.
  absl::StatusOr<Timeline> Explain(const std::string& request_id,
                                   absl::Time now) const {
    return waiting_.timelines().Find(request_id, now);
  }
  // Of the tables after the last plan; see common/digest.h.
  uint64_t table_digest() const { return last_table_digest_; }

  // Internal, with numbers, if the books do not balance.
  absl::Status CheckInvariants() const;

 private:
  struct InFlightStep {
    StepId step_id;
    uint64_t table_digest = 0;
    std::vector<Sequence*> samples;  // in the order of the result's tokens
    // Groups whose prompts it scores, and the sequences that compute them.
    std::vector<std::pair<RequestKey, SequenceId>> prompts;
    int32_t num_sequences = 0;
    int32_t num_tokens = 0;
    int32_t num_chunk_tokens = 0;  // of them, of prompts
    absl::Time planned;
  };

  EngineCore(const EngineOptions& options,
             std::unique_ptr<SchedulingPolicy> policy, PrefixSummary* prefixes);

  // engine_core.cc: lives of groups.
  void EndGroup(SequenceGroup* group, FinishReason reason,
                const absl::Status& status, absl::Time now);
  void RecordEnd(const SequenceGroup& group, FinishReason reason,
                 const absl::Status& status, int32_t num_output_tokens,
                 absl::Time now);
  void LeaveQueue(SequenceGroup* group);
  // DeadlineExceeded, with numbers, if a new one would be late even alone.
  absl::Status CheckDeadline(const SequenceGroup& group, absl::Time now);
  // Back to its place in the queue, without slots, with the tokens it has.
  void Requeue(SequenceGroup* group);
  void ReleaseSlot(Sequence* seq);
  // The slot is free: the KV manager has everything back.
  void VacateSlot(Sequence* seq);
  void ForgetParked(Sequence* seq);
  void DropReservedSlots(SequenceGroup* group);
  void SweepEnded();

  // engine_results.cc
  void AcceptTokens(const InFlightStep& step, StepResult* result,
                    absl::Time now);
  void DropTokens(const InFlightStep& step);
  // Tells the prompts' log probabilities that were not told before.
  void AcceptPrompts(const InFlightStep& step, StepResult* result);
  // One of its group is done; the last one ends the group.
  void EndSequence(Sequence* seq, FinishReason reason, absl::Time now);
  // One that has ended gives back its slot; its group, which has others that
  // have not, goes back to the queue if none of them has one.
  void LeaveSlot(Sequence* seq, absl::Time now);
  bool TakeStep(const StepResult& result, InFlightStep* step);
  void NotePrefillRate(const InFlightStep& step, const StepResult& result);

  // engine_plan.cc
  void ExpireDeadlines(absl::Time now);
  void CompactRunning();
  // Every entry of running_ has a slot of its own, which is its group's.
  absl::Status CheckRunning() const;
  void BeginResync(absl::Time now);
  View MakeView(absl::Time now);
  void RunDecided(InFlightStep* step);
  void AddSlice(RunningSequence* running, int32_t num_tokens,
                InFlightStep* step);
  void MapAhead();
  void Seal(InFlightStep step, absl::Time now);
  InFlightStep NewStep();

  // engine_admission.cc: between the queue and the slots.
  // Refreshes a waiting group's entry in the queue from what is known of it.
  void SettleWaiting(SequenceGroup* group);
  void Settle(const SequenceGroup& group, WaitingGroup* waiting) const;
  // Settles the groups that may be admitted next, if what they would find of
  // themselves may have changed. They keep their places in the view.
  void RefreshHints(const View& view);
  KvAdmission AdmissionOf(const Sequence& seq) const;
  // Of its tokens, the first so many have the keys and values that they have
  // for whoever begins alike.
  int32_t NumCommonTokens(const Sequence& seq) const;
  // Lets others of its scope find what the first `num_computed` tokens have in
  // common with theirs.
  void Publish(const Sequence& seq, int32_t num_computed);
  // Whether an admission of its group leaves it to fork.
  bool ForksLater(const Sequence& seq) const;
  void PreemptDecided(absl::Time now);
  // Preempts the group that running_[begin, end) is.
  void Preempt(size_t begin, size_t end);
  void AdmitDecided(InFlightStep* step, absl::Time now);
  // `budget`: tokens that this step may compute for it.
  bool Admit(SequenceGroup* group, int32_t budget, InFlightStep* step,
             absl::Time now);
  // Gives a sequence a free slot and, of *budget, tokens to compute. False: the
  // KV manager refused and nothing has changed.
  bool Place(Sequence* seq, int32_t* budget, InFlightStep* step);
  // Gives slots to siblings that the KV manager refused when their group came.
  void PlaceLate(InFlightStep* step);

  // engine_losses.cc: workers that are lost, and requests that may be why.
  void DropInFlight();
  // Those that have no slot any more, but steps whose results are not known, in
  // order of arrival.
  std::vector<SequenceGroup*> PreemptedInFlight() const;
  // Those that ran when one was; to be called before they wait again, or are
  // settled.
  void BlameForLoss(absl::Span<SequenceGroup* const> running);
  // Ends those of them that are not to be tried again.
  void EndGuilty(absl::Span<SequenceGroup* const> blamed, absl::Time now);
  // Fills the empty decision_.
  void Schedule(const View& view);
  // Those that ran alone, and have a token of that step, run with others again.
  void ClearSuspects(const InFlightStep& step);

  // engine_window.cc: what attention windows leave behind.
  void SetWindow(int32_t num_blocks);
  // Gives it back for all that run.
  void DropBehindWindows();
  // The most tokens that a step may compute for a sequence that has so many
  // computed, if it is to hold no more than max_seq_blocks_.
  int32_t MaxChunk(int32_t num_computed) const;

  // engine_forks.cc: sequences of a running group that share.
  void ForkSiblings(Sequence* parent);
  // `child` goes on with the first `num_tokens` tokens of `parent`, from the
  // next plan on. REQUIRES: parent has a slot, child has none, one is free.
  void Fork(Sequence* parent, Sequence* child, int32_t num_tokens);
  // Whether its next write must be shown to the KV manager, which copies a
  // block then, as far as a policy knows.
  static void SetMustAsk(bool must_ask, RunningSequence* entry);
  // Takes back a fork that no plan carries yet. False: there is none.
  bool CancelFork(SlotId child);
  bool IsForkParent(SlotId slot) const;
  // [begin, end) of a group's entries in running_.
  std::pair<size_t, size_t> GroupRange(const SequenceGroup& group) const;
  RunningSequence* EntryOf(const Sequence& seq);
  // Puts what running_[begin, end) holds alone into its first entry.
  void RefreshPrivateBlocks(size_t begin, size_t end);
  void RefreshShrunkGroups();
  // Refreshes the groups that a policy may have to preempt.
  void RefreshVictims(int32_t num_free_blocks, bool everyone);

  // engine_beams.cc: a beam search advances when all its results have come.
  void AcceptBeam(Sequence* seq, TokenId sampled, SampledLogprobs* logprobs,
                  absl::Time now);
  void AdvanceBeams(SequenceGroup* group, absl::Time now);
  void ReleaseMovedBeams(SequenceGroup* group,
                         absl::Span<const BeamGroup::Move> moves);
  void SettleBeams(SequenceGroup* group);
  void CountCopies(size_t begin, size_t end);
  void CountBlocks();

  const EngineOptions options_;
  const std::unique_ptr<SchedulingPolicy> policy_;
  PrefixSummary* const prefixes_;

  // The group epoch. kv_ is null while there is none.
  std::unique_ptr<KvManager> kv_;
  absl::Status loss_;
  PreemptionRates rates_;
  // Of the attention, if what lies behind it is given back; else 0.
  int32_t window_ = 0;          // tokens
  int32_t max_seq_blocks_ = 0;  // see View
  uint64_t last_table_digest_ = 0;
  StepIdentity last_step_;  // the last planned one
  bool resync_ = false;     // drain, then restate everything
  std::deque<InFlightStep> in_flight_;
  std::vector<InFlightStep> spare_steps_;  // keep their memory

  // By slot, [max_num_seqs]. Null: free.
  std::vector<Sequence*> slots_;
  std::vector<SlotId> free_slots_;
  std::vector<SlotId> released_;        // for the next plan
  std::vector<SlotFork> forks_;         // for the next plan
  std::vector<NextToken> next_tokens_;  // for the next plan
  // Of sequences that ended while forks_ had them as parents: for the plan
  // after the next.
  std::vector<SlotId> late_released_;
  int32_t num_reserved_slots_ = 0;        // of free_slots_, of all groups
  std::vector<RunningSequence> running_;  // by (rank, arrival)
  bool running_has_gaps_ = false;         // some have lost their slot
  WaitingRoom waiting_;
  StepEstimator estimator_;
  bool hints_are_stale_ = false;  // what waiting groups would find has changed
  bool has_suspects_ = false;     // perhaps: some group runs_alone()
  std::vector<RequestKey> shrunk_;  // running groups of which one has ended
  std::vector<std::pair<RequestKey, int32_t>> unplaced_;  // (group, index)

  absl::flat_hash_map<RequestKey, std::unique_ptr<SequenceGroup>> groups_;
  // Ended, but results in flight still point at them.
  std::vector<std::unique_ptr<SequenceGroup>> ended_;
  std::set<std::pair<absl::Time, RequestKey>> deadlines_;  // finite ones
  int64_t last_arrival_ = 0;
  int64_t first_arrival_ = 0;  // of those that were adopted: -1, -2 ...
  uint64_t last_sequence_id_ = 0;
  uint64_t last_forced_step_ = 0;

  // Reused by every step.
  StepPlan plan_;
  Decision decision_;
  std::vector<Sequence*> chunk_samples_;
  std::vector<Sequence*> prefilled_;  // whose siblings may fork after this step
  std::vector<SlotId> group_slots_;
  std::vector<SequenceOutput> withheld_;

  EngineEffects effects_;
  EngineMetrics metrics_;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_CORE_H_
