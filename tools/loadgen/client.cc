// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/wire/status_wire.h"
#include "proto/inference.grpc.pb.h"
#include "tools/cli/rpc.h"

namespace quire {

struct LoadClient::Stubs {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs;
};

// Owns itself from Start() until gRPC has reported the stream's end and, if
// there was one, that of the Cancel call.
class LoadClient::Call final
    : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Call(LoadClient* client, v1::Inference::Stub* stub, LoadCall call,
       DoneCallback on_done)
      : client_(client),
        stub_(stub),
        call_(std::move(call)),
        on_done_(std::move(on_done)),
        judge_(&record_, std::max(1u, call_.request.sampling().n())) {
    record_.idx = call_.idx;
    record_.arrival = call_.arrival;
  }

  void Start() {
    if (call_.timeout < absl::InfiniteDuration()) {
      context_.set_deadline(absl::ToChronoTime(absl::Now() + call_.timeout));
    }
    stub_->async()->Generate(&context_, &call_.request, this);
    StartRead(&response_);
    record_.sent = client_->clock_->Now();
    // Without a hold the stream could end, and this object with it, before
    // CancelIfDue.
    holds_.fetch_add(1);
    StartCall();
    CancelIfDue();
    Unhold();
  }

  void TryCancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const bool is_sound = judge_.Add(response_, client_->clock_->Now());
    if (!is_sound) context_.TryCancel();
    num_received_.fetch_add(response_.chunk().token_ids_size());
    CancelIfDue();
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    // Last words on the stream; the record is complete from here on.
    judge_.Finish(FromGrpcStatus(status), is_cancelled_,
                  client_->clock_->Now());
    Unhold();
  }

 private:
  void CancelIfDue() {
    if (!call_.cancel || num_received_ < call_.cancel->after_tokens) return;
    if (is_cancelled_.exchange(true)) return;
    if (!call_.cancel->by_call) {
      context_.TryCancel();
      return;
    }
    holds_.fetch_add(1);
    cancel_request_.set_request_id(call_.request.request_id());
    // NOT_FOUND is fine: the request was not there yet, or no longer.
    stub_->async()->Cancel(&cancel_context_, &cancel_request_,
                           &cancel_response_,
                           [this](grpc::Status) { Unhold(); });
  }

  void Unhold() {
    if (holds_.fetch_sub(1) > 1) return;
    LoadClient* const client = client_;
    DoneCallback on_done = std::move(on_done_);
    RequestRecord record = std::move(record_);
    on_done(std::move(record));
    client->Forget(this);
    // The client may be destroyed only after this object and its hold on the
    // channel: as the channel's last owner, this gRPC thread would wait for
    // its own end.
    delete this;
    client->CallGone();
  }

  LoadClient* const client_;
  v1::Inference::Stub* const stub_;
  const LoadCall call_;
  DoneCallback on_done_;
  RequestRecord record_;
  StreamJudge judge_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  std::atomic<int64_t> num_received_ = 0;
  std::atomic<bool> is_cancelled_ = false;
  grpc::ClientContext cancel_context_;
  v1::CancelRequest cancel_request_;
  v1::CancelResponse cancel_response_;
  // Calls of gRPC that still refer to this object.
  std::atomic<int> holds_ = 1;
};

LoadClient::LoadClient(const std::string& target, int64_t num_channels,
                       const Clock* clock)
    : clock_(clock), stubs_(std::make_unique<Stubs>()) {
  for (int64_t idx = 0; idx < num_channels; ++idx) {
    const auto channel = MakeChannel(target, static_cast<int>(idx));
    stubs_->channels.push_back(channel);
    stubs_->stubs.push_back(v1::Inference::NewStub(channel));
  }
}

LoadClient::~LoadClient() {
  const auto is_idle = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return num_calls_ == 0;
  };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&is_idle));
}

bool LoadClient::Connect(absl::Duration timeout) {
  const auto deadline = absl::ToChronoTime(absl::Now() + timeout);
  for (const auto& channel : stubs_->channels) {
    channel->GetState(/*try_to_connect=*/true);
  }
  return std::all_of(stubs_->channels.begin(), stubs_->channels.end(),
                     [&](const std::shared_ptr<grpc::Channel>& channel) {
                       return channel->WaitForConnected(deadline);
                     });
}

void LoadClient::Start(LoadCall call, DoneCallback on_done) {
  v1::Inference::Stub* const stub =
      stubs_->stubs[call.idx % stubs_->stubs.size()].get();
  Call* const started =
      new Call(this, stub, std::move(call), std::move(on_done));
  {
    absl::MutexLock lock(&mutex_);
    calls_.insert(started);
    ++num_calls_;
  }
  started->Start();
}

void LoadClient::CancelAll() {
  absl::MutexLock lock(&mutex_);
  for (Call* const call : calls_) call->TryCancel();
}

void LoadClient::Forget(Call* call) {
  absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

void LoadClient::CallGone() {
  absl::MutexLock lock(&mutex_);
  --num_calls_;
}

}  // namespace quire
