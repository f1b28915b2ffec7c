// SPDX-License-Identifier: Apache-2.0
#include "coordinator/cluster/cluster_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/wire/status_wire.h"
#include "coordinator/cluster/cluster_status.h"
#include "proto/cluster.grpc.pb.h"

namespace quire {
namespace {

constexpr double kDefaultDrainSeconds = 90;
constexpr size_t kMaxDrains = 16;

// Lives as long as the worker keeps the stream open.
class HeartbeatReactor final
    : public grpc::ServerBidiReactor<v1::HeartbeatRequest,
                                     v1::HeartbeatResponse> {
 public:
  explicit HeartbeatReactor(WorkerRegistry* registry) : registry_(registry) {
    StartRead(&request_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      Leave();
      return;
    }
    const absl::Status status = registry_->Heartbeat(
        request_.instance_id(), Epoch(request_.coordinator_epoch()),
        Epoch(request_.group_epoch()), StepId(request_.last_step_id()));
    if (status.ok()) {
      last_ = request_;
      StartWrite(&response_);
    } else {
      Finish(ToGrpcStatus(status));
    }
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      StartRead(&request_);
    } else {
      Leave();
    }
  }
  void OnDone() override { delete this; }

  // The worker said goodbye or is gone.
  void Leave() {
    registry_->Leave(last_.instance_id(), Epoch(last_.coordinator_epoch()),
                     Epoch(last_.group_epoch()));
    Finish(grpc::Status::OK);
  }

  WorkerRegistry* const registry_;
  v1::HeartbeatRequest request_;
  v1::HeartbeatRequest last_;  // that was accepted
  v1::HeartbeatResponse response_;
};

// Waits for keys without a thread. Two may end it, once: the board with an
// answer, gRPC when the caller's deadline passes.
class RendezvousReactor final : public grpc::ServerUnaryReactor {
 public:
  RendezvousReactor(RendezvousBoard* board,
                    const v1::GetRendezvousRequest& request,
                    v1::GetRendezvousResponse* response)
      : board_(board), shared_(std::make_shared<Shared>()) {
    // The call back may come after this object is gone, so it holds only what
    // is shared and looks whether somebody is there.
    shared_->reactor = this;
    shared_->response = response;
    const uint64_t wait_id = board->Get(
        request.group(), Epoch(request.group_epoch()),
        {request.keys().begin(), request.keys().end()},
        [shared = shared_](absl::StatusOr<RendezvousBoard::Values> values) {
          Answer(shared.get(), std::move(values));
        });
    absl::MutexLock lock(&shared_->mutex);
    wait_id_ = wait_id;
  }

 private:
  struct Shared {
    absl::Mutex mutex;
    // Null once the call has its status.
    RendezvousReactor* reactor ABSL_GUARDED_BY(mutex) = nullptr;
    v1::GetRendezvousResponse* response ABSL_GUARDED_BY(mutex) = nullptr;
  };

  static void Answer(Shared* shared,
                     absl::StatusOr<RendezvousBoard::Values> values) {
    absl::MutexLock lock(&shared->mutex);
    if (shared->reactor == nullptr) return;
    if (values.ok()) {
      for (std::string& value : *values) {
        shared->response->add_values(std::move(value));
      }
    }
    std::exchange(shared->reactor, nullptr)
        ->Finish(ToGrpcStatus(values.status()));
  }

  void OnCancel() override {
    uint64_t wait_id;
    {
      absl::MutexLock lock(&shared_->mutex);
      wait_id = wait_id_;
    }
    board_->Cancel(wait_id);
    Answer(shared_.get(), absl::DeadlineExceededError(
                              "not every key was put on the board in time"));
  }
  void OnDone() override { delete this; }

  RendezvousBoard* const board_;
  // Shared with the call back that the board holds.
  const std::shared_ptr<Shared> shared_;
  uint64_t wait_id_ = 0;
};

WorkerOffer FromProto(const v1::RegisterRequest& request) {
  WorkerOffer offer;
  offer.address = request.address();
  offer.instance_id = request.instance_id();
  offer.device = request.device();
  if (request.has_group()) offer.group = static_cast<int32_t>(request.group());
  if (request.has_rank()) offer.rank = static_cast<int32_t>(request.rank());
  offer.pid = request.pid();
  offer.version = request.version();
  return offer;
}

// Thread-safe.
class ClusterService final : public v1::Cluster::CallbackService {
 public:
  explicit ClusterService(const ClusterContext* cluster) : cluster_(cluster) {}

  ~ClusterService() override {
    absl::MutexLock lock(&mutex_);
    for (std::thread& drain : drains_) drain.join();
  }

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* rpc,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override {
    absl::StatusOr<Registration> registration =
        cluster_->registry->Register(FromProto(*request));
    if (!registration.ok()) return Answer(rpc, registration.status());
    const Seat& seat = registration->seat;
    response->set_group(seat.group);
    response->set_rank(seat.rank);
    response->set_world_size(seat.world_size);
    response->set_coordinator_epoch(seat.coordinator_epoch.value());
    response->set_group_epoch(seat.group_epoch.value());
    response->set_heartbeat_period_s(
        absl::ToDoubleSeconds(cluster_->registry->heartbeat_period()));
    response->set_heartbeat_timeout_s(
        absl::ToDoubleSeconds(cluster_->registry->heartbeat_timeout()));
    if (registration->formed.has_value()) {
      cluster_->on_formed(*registration->formed);
    }
    return Answer(rpc, absl::OkStatus());
  }

  grpc::ServerBidiReactor<v1::HeartbeatRequest, v1::HeartbeatResponse>*
  Heartbeat(grpc::CallbackServerContext*) override {
    return new HeartbeatReactor(cluster_->registry);
  }

  grpc::ServerUnaryReactor* PutRendezvous(
      grpc::CallbackServerContext* rpc, const v1::PutRendezvousRequest* request,
      v1::PutRendezvousResponse*) override {
    const Epoch epoch(request->group_epoch());
    absl::Status status =
        cluster_->registry->CheckEpoch(request->group(), epoch);
    if (status.ok()) {
      status = cluster_->board->Put(request->group(), epoch, request->key(),
                                    request->value());
    }
    return Answer(rpc, status);
  }

  grpc::ServerUnaryReactor* GetRendezvous(
      grpc::CallbackServerContext* rpc, const v1::GetRendezvousRequest* request,
      v1::GetRendezvousResponse* response) override {
    const absl::Status status = cluster_->registry->CheckEpoch(
        request->group(), Epoch(request->group_epoch()));
    if (!status.ok()) return Answer(rpc, status);
    return new RendezvousReactor(cluster_->board, *request, response);
  }

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* rpc,
                                   const v1::StatusRequest*,
                                   v1::StatusResponse* response) override {
    FillStatus(*cluster_, response);
    return Answer(rpc, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* rpc,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override {
    const double seconds = request->has_deadline_s() ? request->deadline_s()
                                                     : kDefaultDrainSeconds;
    if (!(seconds >= 0)) {
      return Answer(rpc, absl::InvalidArgumentError(
                             "deadline_s must be a number of seconds, 0 or "
                             "more"));
    }
    absl::MutexLock lock(&mutex_);
    if (drains_.size() >= kMaxDrains) {
      return Answer(rpc, absl::ResourceExhaustedError(
                             "Drain was called too often; the server drains "
                             "already"));
    }
    grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
    // A drain is rare and long: a thread may wait for it.
    drains_.emplace_back([this, seconds, reactor, response] {
      const DrainOutcome outcome =
          cluster_->drain(cluster_->clock->Now() + absl::Seconds(seconds));
      response->set_num_finished(outcome.num_finished);
      response->set_num_aborted(outcome.num_aborted);
      reactor->Finish(grpc::Status::OK);
    });
    return reactor;
  }

 private:
  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* rpc,
                                          const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
    reactor->Finish(ToGrpcStatus(status));
    return reactor;
  }

  const ClusterContext* const cluster_;
  absl::Mutex mutex_;
  std::vector<std::thread> drains_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<grpc::Service> MakeClusterService(
    const ClusterContext* cluster) {
  return std::make_unique<ClusterService>(cluster);
}

}  // namespace quire
