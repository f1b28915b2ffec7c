// SPDX-License-Identifier: Apache-2.0
#include "worker/service/run_call.h"

#include <utility>

#include "common/wire/status_wire.h"
#include "common/wire/step_plan_wire.h"

namespace quire {

RunCall* RunCall::Start(WorkerCore* core, std::function<void()> on_end) {
  const auto call = std::make_shared<RunCall>(core, std::move(on_end));
  call->self_ = call;
  absl::MutexLock lock(&call->mutex_);
  call->ReadNext();
  return call.get();
}

RunCall::RunCall(WorkerCore* core, std::function<void()> on_end)
    : core_(core), on_end_(std::move(on_end)) {
  for (Work& work : works_) free_.push_back(&work);
}

void RunCall::ReadNext() {
  if (is_reading_ || client_closed_ || end_.has_value() || free_.empty()) {
    return;
  }
  is_reading_ = true;
  StartRead(&incoming_);
}

void RunCall::OnReadDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  is_reading_ = false;
  if (!ok) {
    client_closed_ = true;
    MaybeFinish();
    return;
  }
  Work* work = free_.back();
  free_.pop_back();
  work->received = core_->clock().Now();
  if (const absl::Status status = DecodeStepPlan(incoming_, &work->plan);
      !status.ok()) {
    free_.push_back(work);
    End(absl::InternalError(status.message()));
    return;
  }
  ++num_running_;
  core_->Step(&work->plan, work->received, &work->result,
              [self = shared_from_this(), work](const absl::Status& status) {
                self->OnStepDone(work, status);
              });
  ReadNext();
}

void RunCall::OnStepDone(Work* work, const absl::Status& status) {
  if (status.ok()) EncodeStepResult(work->result, &work->message);
  absl::MutexLock lock(&mutex_);
  --num_running_;
  if (!status.ok()) {
    free_.push_back(work);
    End(status);
    return;
  }
  to_write_.push_back(work);
  WriteNext();
}

void RunCall::WriteNext() {
  if (is_writing_ || has_finished_ || to_write_.empty()) return;
  is_writing_ = true;
  StartWrite(&to_write_.front()->message);
}

void RunCall::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  is_writing_ = false;
  free_.push_back(to_write_.front());
  to_write_.pop_front();
  if (!ok) {  // nobody reads any more
    to_write_.clear();
    End(absl::CancelledError("the coordinator is gone"));
    return;
  }
  WriteNext();
  ReadNext();
  MaybeFinish();
}

void RunCall::OnCancel() {
  absl::MutexLock lock(&mutex_);
  End(absl::CancelledError("the coordinator ended the stream"));
}

void RunCall::End(const absl::Status& status) {
  if (!end_.has_value()) end_ = status;
  MaybeFinish();
}

void RunCall::MaybeFinish() {
  if (has_finished_ || is_writing_ || !to_write_.empty()) return;
  if (!end_.has_value()) {
    if (!client_closed_ || num_running_ > 0) return;
    end_ = absl::OkStatus();
  }
  has_finished_ = true;
  on_end_();  // first, so that who hears of the end may open the next stream
  Finish(ToGrpcStatus(*end_));
}

void RunCall::OnDone() { self_.reset(); }

}  // namespace quire
