// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/engine_loop.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

absl::StatusOr<std::unique_ptr<EngineLoop>> EngineLoop::Create(
    const EngineOptions& options, OutputListener* listener, Clock* clock,
    const EngineSeat& seat) {
  EngineOptions whole = options;
  // They go elsewhere, so the engine is not to end them.
  if (seat.watcher != nullptr) {
    whole.on_group_lost = OnGroupLostAction::kRequeue;
  }
  QUIRE_ASSIGN_OR_RETURN(std::unique_ptr<EngineCore> core,
                         EngineCore::Create(whole, seat.prefixes));
  return std::unique_ptr<EngineLoop>(
      new EngineLoop(whole, std::move(core), listener, clock, seat));
}

EngineLoop::EngineLoop(const EngineOptions& options,
                       std::unique_ptr<EngineCore> core,
                       OutputListener* listener, Clock* clock,
                       const EngineSeat& seat)
    : options_(options),
      listener_(listener),
      clock_(clock),
      seat_(seat),
      core_(std::move(core)),
      intake_(options, seat.engine_idx, seat.num_engines) {}

EngineLoop::~EngineLoop() { Stop(); }

void EngineLoop::Start(Dispatcher* dispatcher) {
  {
    absl::MutexLock lock(&mutex_);
    CHECK(dispatcher_ == nullptr) << "started twice";
    dispatcher_ = dispatcher;
    answers_ = true;
  }
  thread_ = std::thread([this] { Run(); });
}

void EngineLoop::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    intake_.BeginDrain();
  }
  if (thread_.joinable()) thread_.join();
}

bool EngineLoop::IsReady() const {
  return stats_.ready && (seat_.watcher == nullptr || watcher_knows_ready_);
}

bool EngineLoop::AwaitReady(absl::Time deadline, std::optional<Epoch> awaited) {
  absl::MutexLock lock(&mutex_);
  const auto is_decided = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return IsReady() || stopping_ ||
           (awaited.has_value() && lost_epoch_ >= *awaited);
  };
  clock_->AwaitUntil(&mutex_, absl::Condition(&is_decided), deadline);
  return IsReady() && !stopping_ &&
         !(awaited.has_value() && lost_epoch_ >= *awaited);
}

void EngineLoop::Drain(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  intake_.BeginDrain();
  const absl::Condition drained(this, &EngineLoop::IsDrained);
  if (clock_->AwaitUntil(&mutex_, drained, deadline)) return;
  inbox_.push_back(
      Abort{absl::UnavailableError("drained before it was done; retry")});
  mutex_.Await(drained);
}

// Requests leave the intake when they end; a stopped loop answers nobody.
bool EngineLoop::IsDrained() const {
  return (intake_.num_accepted() == 0 && inbox_.empty() && idle_) || stopping_;
}

absl::StatusOr<RequestKey> EngineLoop::Submit(EngineRequest request) {
  const absl::Time now = clock_->Now();
  RequestKey key;
  {
    absl::MutexLock lock(&mutex_);
    QUIRE_ASSIGN_OR_RETURN(key, intake_.Accept(request));
    inbox_.push_back(Arrival{key, std::move(request), now});
    // A watcher submits under its lock, which it takes when a turn tells it.
    if (seat_.watcher != nullptr || !TakeShortTurn()) return key;
  }
  RunTurn();
  return key;
}

void EngineLoop::Finish(RequestKey request, FinishReason reason) {
  Post(Ending{request, reason});
}

void EngineLoop::FinishSequence(RequestKey request, int32_t index) {
  Post(Ending{request, FinishReason::kStop, index});
}

void EngineLoop::SetMask(RequestKey request, int32_t index, int64_t num_outputs,
                         TokenMask mask) {
  Post(Masking{request, index, num_outputs, std::move(mask)});
}

void EngineLoop::Adopt(std::vector<MovedGroup> groups, bool stay) {
  absl::MutexLock lock(&mutex_);
  for (const MovedGroup& moved : groups) {
    const SequenceGroup& group = *moved.group;
    intake_.Adopt(group.request_id, group.key, !group.was_scheduled(),
                  group.sequences[0].num_prompt_tokens);
  }
  inbox_.push_back(Adoption{std::move(groups), stay});
}

absl::Status EngineLoop::CheckFits(int64_t num_prompt_tokens,
                                   int64_t max_tokens, int32_t num_seqs) const {
  absl::MutexLock lock(&mutex_);
  return intake_.CheckFits(num_prompt_tokens, max_tokens, num_seqs);
}

absl::StatusOr<RequestKey> EngineLoop::Find(const std::string& request_id) {
  absl::MutexLock lock(&mutex_);
  return intake_.Find(request_id);
}

absl::StatusOr<Timeline> EngineLoop::Explain(const std::string& request_id) {
  Question question{.request_id = request_id,
                    .answer = absl::UnavailableError("the engine has stopped")};
  absl::MutexLock lock(&mutex_);
  if (!answers_) return question.answer;
  questions_.push_back(&question);
  mutex_.Await(absl::Condition(&question.answered));
  return std::move(question.answer);
}

EngineInfo EngineLoop::Info() const {
  absl::MutexLock lock(&mutex_);
  return {.block_size = options_.block_size,
          .num_blocks = intake_.num_blocks(),
          .max_model_len = options_.max_model_len,
          .max_num_seqs = options_.max_num_seqs,
          .max_num_batched_tokens = options_.max_num_batched_tokens};
}

EngineStats EngineLoop::Stats() const {
  absl::MutexLock lock(&mutex_);
  EngineStats stats = stats_;
  stats.num_queued = intake_.num_queued();
  stats.num_queued_tokens = intake_.num_queued_tokens();
  return stats;
}

EngineMetrics EngineLoop::TakeMetrics() {
  absl::MutexLock lock(&mutex_);
  EngineMetrics taken = std::exchange(metrics_, {});
  metrics_.counters = taken.counters;
  metrics_.tenants = taken.tenants;
  metrics_.waited = taken.waited;
  metrics_.num_dropped_samples = taken.num_dropped_samples;
  return taken;
}

void EngineLoop::OnGroupReady(const GroupReady& group) { Post(group); }

void EngineLoop::OnStepResult(StepResult result) {
  {
    absl::MutexLock lock(&mutex_);
    inbox_.push_back(std::move(result));
    if (dispatcher_ == nullptr || !dispatcher_->is_reentrant() ||
        !TakeShortTurn()) {
      return;
    }
  }
  RunTurn();
}

void EngineLoop::OnGroupLost(Epoch group_epoch, const absl::Status& cause) {
  absl::MutexLock lock(&mutex_);
  lost_epoch_ = group_epoch;
  inbox_.push_back(Loss{group_epoch, cause});
}

void EngineLoop::Post(Message message) {
  absl::MutexLock lock(&mutex_);
  inbox_.push_back(std::move(message));
}

void EngineLoop::Handle(Message message) {
  const absl::Time now = clock_->Now();
  if (observer_ != nullptr) ShowObserver(message, now);
  std::visit(
      Overloaded{
          [&](Arrival& arrival) {
            core_->AddRequest(arrival.key, std::move(arrival.request),
                              arrival.time);
          },
          [&](Ending& ending) { HandleEnding(ending, now); },
          [&](Masking& masking) { HandleMasking(std::move(masking)); },
          [&](GroupReady& group) { HandleReady(group, now); },
          [&](StepResult& result) { HandleResult(std::move(result), now); },
          [&](Loss& loss) {
            core_->OnGroupLost(loss.group_epoch, loss.cause, now);
          },
          [&](Abort& abort) { core_->EndAll(abort.status, now); },
          [&](Adoption& adoption) { HandleAdoption(std::move(adoption), now); },
          [&](Depart&) { keeps_ = false; },
      },
      message);
}

// Workers that the engine cannot work with are not to wait for it.
void EngineLoop::HandleReady(const GroupReady& group, absl::Time now) {
  const absl::Status status = core_->OnGroupReady(group, now);
  if (!status.ok()) dispatcher_->Close(group.group_epoch, status);
}

void EngineLoop::HandleResult(StepResult result, absl::Time now) {
  const Epoch group_epoch = result.identity.group_epoch;
  const bool was_ready = core_->is_ready();
  core_->OnStepResult(std::move(result), now);
  if (was_ready && !core_->is_ready()) {
    dispatcher_->Close(group_epoch, core_->loss());
  }
}

void EngineLoop::HandleEnding(const Ending& ending, absl::Time now) {
  if (seat_.watcher != nullptr && !core_->Has(ending.key)) {
    seat_.watcher->OnStray(seat_.engine_idx, ending.key,
                           [&](EngineClient* engine) {
                             if (ending.index >= 0) {
                               engine->FinishSequence(ending.key, ending.index);
                             } else {
                               engine->Finish(ending.key, ending.reason);
                             }
                           });
  } else if (ending.index >= 0) {
    core_->FinishSequence(ending.key, ending.index, now);
  } else {
    core_->FinishRequest(ending.key, ending.reason, now);
  }
}

void EngineLoop::HandleMasking(Masking masking) {
  if (seat_.watcher != nullptr && !core_->Has(masking.key)) {
    seat_.watcher->OnStray(
        seat_.engine_idx, masking.key, [&](EngineClient* engine) {
          engine->SetMask(masking.key, masking.index, masking.num_outputs,
                          std::move(masking.mask));
        });
    return;
  }
  core_->SetMask(masking.key, masking.index, masking.num_outputs,
                 std::move(masking.mask));
}

void EngineLoop::HandleAdoption(Adoption adoption, absl::Time now) {
  keeps_ = adoption.stay;
  // Each goes before those that wait: the oldest comes last.
  std::vector<MovedGroup>& groups = adoption.groups;
  for (auto moved = groups.rbegin(); moved != groups.rend(); ++moved) {
    core_->Adopt(std::move(*moved), now);
  }
}

void EngineLoop::ShowObserver(const Message& message, absl::Time now) {
  std::visit(
      Overloaded{
          [&](const Arrival& arrival) {
            observer_->OnRequest(arrival.key, arrival.request, arrival.time);
          },
          [&](const Ending& ending) {
            if (ending.index >= 0) {
              observer_->OnFinishSequence(ending.key, ending.index, now);
            } else {
              observer_->OnFinish(ending.key, ending.reason, now);
            }
          },
          [&](const Masking& masking) {
            observer_->OnMask(masking.key, masking.index, masking.num_outputs,
                              now);
          },
          [&](const GroupReady& group) { observer_->OnGroupReady(group, now); },
          [&](const StepResult& result) {
            observer_->OnStepResult(result, now);
          },
          [&](const Loss& loss) {
            observer_->OnGroupLost(loss.group_epoch, loss.cause, now);
          },
          [&](const Abort& abort) { observer_->OnEndAll(abort.status, now); },
          [&](const Adoption&) { observer_->OnMove(now); },
          [&](const Depart&) {},
      },
      message);
}

}  // namespace quire
