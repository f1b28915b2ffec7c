// SPDX-License-Identifier: Apache-2.0
//
// Drives EngineCore by turns, one at a time: who has the turn is the engine
// thread, its only writer. Everyone else leaves a message in the inbox. A turn
// takes all of them at once, plans, sends, and hands outputs on. Turns are the
// loop's own thread's, which waits on a condition when there is nothing to do;
// but while few requests are there, who brings a request or a result takes the
// turn itself, which saves the time in which a thread wakes up.
#ifndef COORDINATOR_ENGINE_ENGINE_LOOP_H_
#define COORDINATOR_ENGINE_ENGINE_LOOP_H_

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/ids.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_metrics.h"
#include "coordinator/engine/engine_observer.h"
#include "coordinator/engine/engine_options.h"
#include "coordinator/engine/engine_watcher.h"
#include "coordinator/engine/intake.h"
#include "coordinator/engine/moved_group.h"

namespace quire {

// Thread-safe. Takes its mutex twice a turn, to read the inbox and to publish,
// and once more in turns that end a request. Calls the listener, the dispatcher
// and the watcher without it, perhaps before OnStepResult() or, where there is
// no watcher, Submit() has returned.
class EngineLoop final : public EngineClient, public DispatchListener {
 public:
  // InvalidArgument as EngineCore::Create. `listener`, `clock` and what `seat`
  // names are borrowed and outlive the loop. With a watcher, requests that are
  // left without workers go to it, whatever options.on_group_lost says.
  static absl::StatusOr<std::unique_ptr<EngineLoop>> Create(
      const EngineOptions& options, OutputListener* listener, Clock* clock,
      const EngineSeat& seat = {});

  // Stops.
  ~EngineLoop() override;

  // Shows everything to `observer` from now on. Borrowed until Stop() has
  // returned. REQUIRES: not started.
  void Observe(EngineObserver* observer) { observer_ = observer; }

  // Begins. `dispatcher` is borrowed until Stop() has returned. Messages may
  // come before. REQUIRES: called once.
  void Start(Dispatcher* dispatcher) ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits until Submit() is heard by a worker group that is ready. False: not
  // by `deadline`, the loop is over, or the group of epoch `awaited` is lost.
  bool AwaitReady(absl::Time deadline,
                  std::optional<Epoch> awaited = std::nullopt)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes no new requests from now on (Unavailable), waits until those that
  // run have ended or `deadline` has passed, and ends the rest Unavailable.
  // Not to be called by the listener. REQUIRES: started.
  void Drain(absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the thread; requests that still run end Unavailable first. May be
  // called again.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Of the watcher: takes requests that another loop gave it, oldest first,
  // before all that wait here. `stay`: no loop has workers, so they wait here
  // for the next epoch, or for HandOver().
  void Adopt(std::vector<MovedGroup> groups, bool stay)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the watcher: another loop has workers, so what stays here without any
  // goes to it.
  void HandOver() { Post(Depart{}); }
  // Ends every request that runs or waits with `status`.
  void EndAll(const absl::Status& status) { Post(Abort{status}); }

  // Of the watcher: see Intake::CheckFits.
  absl::Status CheckFits(int64_t num_prompt_tokens, int64_t max_tokens,
                         int32_t num_seqs) const ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<RequestKey> Submit(EngineRequest request) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Finish(RequestKey request, FinishReason reason) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void FinishSequence(RequestKey request, int32_t index) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void SetMask(RequestKey request, int32_t index, int64_t num_outputs,
               TokenMask mask) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<RequestKey> Find(const std::string& request_id) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Not to be called by the listener.
  absl::StatusOr<Timeline> Explain(const std::string& request_id) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  EngineInfo Info() const override ABSL_LOCKS_EXCLUDED(mutex_);
  EngineStats Stats() const override ABSL_LOCKS_EXCLUDED(mutex_);

  void OnGroupReady(const GroupReady& group) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnStepResult(StepResult result) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnGroupLost(Epoch group_epoch, const absl::Status& cause) override
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Counters, and samples since the last call. At most one step old.
  EngineMetrics TakeMetrics() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Arrival {
    RequestKey key;
    EngineRequest request;
    absl::Time time;
  };
  struct Ending {
    RequestKey key;
    FinishReason reason;
    int32_t index = -1;  // >= 0: of this sequence alone
  };
  struct Masking {
    RequestKey key;
    int32_t index;
    int64_t num_outputs;
    TokenMask mask;
  };
  struct Loss {
    Epoch group_epoch;
    absl::Status cause;
  };
  // Answered by the thread once it has handled what came before.
  struct Question {
    const std::string& request_id;
    absl::StatusOr<Timeline> answer;
    bool answered = false;
  };
  struct Abort {
    absl::Status status;
  };
  struct Adoption {
    std::vector<MovedGroup> groups;
    bool stay = false;
  };
  struct Depart {};
  using Message = std::variant<Arrival, Ending, Masking, GroupReady, StepResult,
                               Loss, Abort, Adoption, Depart>;

  EngineLoop(const EngineOptions& options, std::unique_ptr<EngineCore> core,
             OutputListener* listener, Clock* clock, const EngineSeat& seat);

  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the thread: waits for messages or a deadline, and takes the turn. False:
  // the loop is over.
  bool AwaitTurn() ABSL_LOCKS_EXCLUDED(mutex_);
  // Of others: takes the turn if it is free and will be short.
  bool TakeShortTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // REQUIRES: the caller has the turn, which this ends.
  void RunTurn() ABSL_LOCKS_EXCLUDED(mutex_);
  void EndTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Handle(Message message);
  void HandleReady(const GroupReady& group, absl::Time now);
  void HandleResult(StepResult result, absl::Time now);
  void HandleEnding(const Ending& ending, absl::Time now);
  void HandleMasking(Masking masking);
  void HandleAdoption(Adoption adoption, absl::Time now);
  void ShowObserver(const Message& message, absl::Time now);
  void SendPlans();
  // Tells the watcher whether there are workers, and gives it what waits in
  // vain.
  void TellReadiness() ABSL_LOCKS_EXCLUDED(mutex_);
  void GiveStranded() ABSL_LOCKS_EXCLUDED(mutex_);
  void AnswerQuestions() ABSL_LOCKS_EXCLUDED(mutex_);
  void Publish() ABSL_LOCKS_EXCLUDED(mutex_);
  void PublishState() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Post(Message message) ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsReady() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the thread is to stop waiting: the turn is free, and there is work
  // or a deadline before the one that it waits for.
  bool IsThreadDue() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsDrained() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineOptions options_;
  OutputListener* const listener_;
  Clock* const clock_;
  const EngineSeat seat_;

  // Of who has the turn; the pointers to others do not change once it begins.
  const std::unique_ptr<EngineCore> core_;
  std::vector<Message> messages_;  // in hand
  bool told_ready_ = false;  // the watcher
  bool keeps_ = false;       // requests without workers stay
  Dispatcher* dispatcher_ = nullptr;
  EngineObserver* observer_ = nullptr;
  std::vector<Question*> asked_;  // before the messages in hand

  std::thread thread_;

  mutable absl::Mutex mutex_;
  std::vector<Message> inbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<Question*> questions_ ABSL_GUARDED_BY(mutex_);
  bool answers_ ABSL_GUARDED_BY(mutex_) = false;  // the thread runs
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool idle_ ABSL_GUARDED_BY(mutex_) = true;
  // Also before the thread has begun and once it ends: nobody may have it.
  bool is_turn_taken_ ABSL_GUARDED_BY(mutex_) = true;
  // When a turn is due although nothing happens, and when the thread will look.
  absl::Time deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  absl::Time thread_deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool watcher_knows_ready_ ABSL_GUARDED_BY(mutex_) = false;
  Epoch lost_epoch_ ABSL_GUARDED_BY(mutex_);  // the last that was lost
  Intake intake_ ABSL_GUARDED_BY(mutex_);
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  EngineMetrics metrics_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_LOOP_H_
