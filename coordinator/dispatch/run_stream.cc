// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/run_stream.h"

#include <grpcpp/channel.h>

#include <utility>

#include "common/wire/status_wire.h"
#include "common/wire/step_plan_wire.h"

namespace quire {

RunStream::RunStream(const std::shared_ptr<grpc::Channel>& channel,
                     int32_t rank, RunStreamListener* listener)
    : rank_(rank),
      listener_(listener),
      stub_(v1::Worker::NewStub(channel)),
      context_(std::make_unique<grpc::ClientContext>()) {}

std::shared_ptr<RunStream> RunStream::Open(
    const std::shared_ptr<grpc::Channel>& channel, int32_t rank,
    RunStreamListener* listener) {
  std::shared_ptr<RunStream> stream(new RunStream(channel, rank, listener));
  stream->self_ = stream;
  stream->stub_->async()->Run(stream->context_.get(), stream.get());
  // Writes start on other threads than gRPC's, so OnDone must wait until none
  // can start any more: until `closed_`.
  stream->AddHold();
  stream->StartRead(&stream->received_);
  stream->StartCall();
  return stream;
}

void RunStream::Cancel() {
  absl::MutexLock lock(&mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

void RunStream::Send(std::shared_ptr<const v1::StepPlan> plan) {
  absl::MutexLock lock(&mutex_);
  if (closed_) return;
  queue_.push_back(std::move(plan));
  if (!writing_) StartNextWrite();
}

void RunStream::StartNextWrite() {
  writing_ = true;
  StartWrite(queue_.front().get());
}

void RunStream::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  queue_.pop_front();
  if (ok && !closed_ && !queue_.empty()) StartNextWrite();
}

void RunStream::OnReadDone(bool ok) {
  StepResult result;
  if (ok && DecodeStepResult(received_, &result).ok()) {
    listener_->OnResult(rank_, std::move(result));
    StartRead(&received_);
    return;
  }
  if (ok) Cancel();  // a result that makes no sense
  {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  RemoveHold();
}

void RunStream::OnDone(const grpc::Status& status) {
  const std::shared_ptr<RunStream> self = std::move(self_);
  {
    // Both hold the channel. The last share of the last channel must not go on
    // this thread: it would wait for gRPC's callback threads, this one among
    // them, to end. So ours goes while the listener still has its own.
    absl::MutexLock lock(&mutex_);
    context_ = nullptr;
  }
  stub_ = nullptr;
  listener_->OnStreamEnd(rank_, FromGrpcStatus(status));
}

}  // namespace quire
