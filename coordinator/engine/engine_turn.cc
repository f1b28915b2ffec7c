// SPDX-License-Identifier: Apache-2.0
//
// The engine loop's turns: who has one, and what it does.
#include <algorithm>
#include <iterator>
#include <utility>

#include "coordinator/engine/engine_loop.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Turns of so few requests take 50 us, most of them gRPC's writing, where a
// thread takes 30 to wake up: any thread may run them. Those of more have no
// need, as steps run ahead of their plans.
constexpr int32_t kMaxFewRequests = 4;

template <typename Sample>
void AppendSamples(std::vector<Sample> from, std::vector<Sample>* to,
                   int64_t* num_dropped) {
  const size_t num_taken = std::min(from.size(), kMaxSamples - to->size());
  to->insert(to->end(), from.begin(), from.begin() + num_taken);
  *num_dropped += static_cast<int64_t>(from.size() - num_taken);
}

}  // namespace

bool EngineLoop::HasWork() const {
  return !inbox_.empty() || !questions_.empty() || stopping_;
}

void EngineLoop::Run() {
  {
    absl::MutexLock lock(&mutex_);
    EndTurn();
  }
  while (AwaitTurn()) RunTurn();
  Handle(Abort{absl::UnavailableError("the coordinator stops; retry")});
  Publish();
  AnswerQuestions();
  absl::MutexLock lock(&mutex_);
  answers_ = false;
  for (Question* question : questions_) question->answered = true;
  questions_.clear();
}

bool EngineLoop::IsThreadDue() const {
  return !is_turn_taken_ && (HasWork() || deadline_ < thread_deadline_);
}

bool EngineLoop::AwaitTurn() {
  absl::MutexLock lock(&mutex_);
  do {
    thread_deadline_ = deadline_;
    clock_->AwaitUntil(&mutex_, absl::Condition(this, &EngineLoop::IsThreadDue),
                       thread_deadline_);
    // A deadline may have passed in another's turn, which may have met it.
    mutex_.Await(absl::Condition(
        +[](bool* is_taken) { return !*is_taken; }, &is_turn_taken_));
  } while (!HasWork() && clock_->Now() < deadline_);
  BeginTurn();
  if (!stopping_) return true;
  // Those in the inbox were promised an answer.
  for (Message& message : messages_) {
    if (std::holds_alternative<Arrival>(message) ||
        std::holds_alternative<Adoption>(message)) {
      Handle(std::move(message));
    }
  }
  return false;
}

bool EngineLoop::TakeShortTurn() {
  if (is_turn_taken_ || stopping_ ||
      stats_.num_running + stats_.num_waiting + intake_.num_queued() >
          kMaxFewRequests) {
    return false;
  }
  BeginTurn();
  return true;
}

void EngineLoop::BeginTurn() {
  is_turn_taken_ = true;
  std::swap(inbox_, messages_);
  std::swap(questions_, asked_);
  idle_ = false;
}

void EngineLoop::RunTurn() {
  for (Message& message : messages_) Handle(std::move(message));
  messages_.clear();
  // Workers that have a step to run, or nothing to do, can wait for a plan.
  if (core_->num_requests() <= kMaxFewRequests &&
      (core_->num_in_flight() > 0 || !core_->has_requests())) {
    Publish();
  }
  SendPlans();
  AnswerQuestions();
  Publish();
  if (seat_.watcher != nullptr) TellReadiness();
  absl::MutexLock lock(&mutex_);
  EndTurn();
}

void EngineLoop::EndTurn() {
  PublishState();
  deadline_ = core_->NextDeadline();
  is_turn_taken_ = false;
}

void EngineLoop::AnswerQuestions() {
  if (asked_.empty()) return;
  const absl::Time now = clock_->Now();
  absl::MutexLock lock(&mutex_);
  for (Question* question : asked_) {
    question->answer = core_->Explain(question->request_id, now);
    question->answered = true;
  }
  asked_.clear();
}

void EngineLoop::TellReadiness() {
  const bool is_ready = core_->is_ready();
  if (is_ready != told_ready_) {
    told_ready_ = is_ready;
    keeps_ = false;
    {
      absl::MutexLock lock(&mutex_);
      PublishState();
    }
    seat_.watcher->OnReadiness(seat_.engine_idx, is_ready);
    absl::MutexLock lock(&mutex_);
    watcher_knows_ready_ = is_ready;
  }
  if (!is_ready && !keeps_ && core_->has_requests()) GiveStranded();
}

void EngineLoop::GiveStranded() {
  const absl::Time now = clock_->Now();
  if (observer_ != nullptr) observer_->OnMove(now);
  std::vector<MovedGroup> groups = core_->TakeAll(now);
  {
    absl::MutexLock lock(&mutex_);
    for (const MovedGroup& moved : groups) {
      intake_.Ended(moved.group->request_id);
    }
  }
  Publish();
  if (groups.empty()) return;
  LOG(INFO) << groups.size() << " requests leave engine " << seat_.engine_idx
            << ", which has no workers";
  seat_.watcher->OnStranded(seat_.engine_idx, core_->loss(), std::move(groups));
}

void EngineLoop::SendPlans() {
  while (true) {
    const absl::Time now = clock_->Now();
    const StepPlan* plan = core_->Plan(now);
    if (observer_ != nullptr) observer_->OnPlan(plan, now);
    if (plan == nullptr) return;
    dispatcher_->Send(*plan);
  }
}

// A request that a client hears to be over may be submitted again at once: the
// intake knows first.
void EngineLoop::Publish() {
  EngineEffects effects = core_->TakeEffects();
  if (effects.num_left_queue > 0 || !effects.ended.empty()) {
    absl::MutexLock lock(&mutex_);
    intake_.Left(effects.num_left_queue, effects.num_tokens_left_queue);
    for (const RequestEnd& end : effects.ended) intake_.Ended(end.request_id);
    PublishState();
  }
  if (seat_.watcher != nullptr &&
      (!effects.begun.empty() || !effects.ended.empty())) {
    seat_.watcher->OnProgress(seat_.engine_idx, effects.begun, effects.ended);
  }
  if (!effects.outputs.empty()) {
    listener_->OnOutputs(std::move(effects.outputs));
  }
}

void EngineLoop::PublishState() {
  stats_ = core_->Stats();
  idle_ = core_->is_idle();
  if (stats_.ready) {
    intake_.Open(stats_.num_blocks, core_->block_size());
  } else if (intake_.is_open()) {
    intake_.Close(
        absl::UnavailableError("the workers were lost; retry in a moment"));
  }
  EngineMetrics fresh = core_->TakeMetrics();
  metrics_.counters = fresh.counters;
  core_->FillWaitMetrics(&metrics_);
  AppendSamples(std::move(fresh.requests), &metrics_.requests,
                &metrics_.num_dropped_samples);
  AppendSamples(std::move(fresh.steps), &metrics_.steps,
                &metrics_.num_dropped_samples);
}

}  // namespace quire
