// SPDX-License-Identifier: Apache-2.0
#include "worker/service/cluster_link.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/wire/status_wire.h"
#include "proto/cluster.grpc.pb.h"

namespace quire {
namespace {

// Of coordinators that do not say.
constexpr absl::Duration kDefaultHeartbeatPeriod = absl::Milliseconds(500);
// Of coordinators that do not say, or bear less silence of their workers.
constexpr absl::Duration kLeastHeartbeatTimeout = absl::Seconds(3);
// Without a sign of life, after which the coordinator is asked for one. It
// answers each heartbeat, so this is time that it has been silent for.
constexpr absl::Duration kPingAfter = absl::Seconds(1);

// Of a coordinator that is not stalled.
constexpr absl::Duration kPutTimeout = absl::Seconds(10);

std::chrono::system_clock::time_point DeadlineIn(absl::Duration duration) {
  return std::chrono::system_clock::now() +
         absl::ToChronoMilliseconds(duration);
}

// Breaks when the coordinator has answered nothing for `silence` and a second:
// by default a cable pulled without a FIN is noticed in four.
std::shared_ptr<grpc::Channel> Connect(const std::string& address,
                                       absl::Duration silence) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
              static_cast<int>(absl::ToInt64Milliseconds(kPingAfter)));
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
              static_cast<int>(absl::ToInt64Milliseconds(silence)));
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   args);
}

class CoordinatorBoard final : public KeyBoard {
 public:
  CoordinatorBoard(v1::Cluster::Stub* stub, const Membership& membership)
      : stub_(stub), membership_(membership) {}

  absl::Status Put(const std::string& key, const std::string& value) override {
    grpc::ClientContext context;
    context.set_deadline(
        DeadlineIn(kPutTimeout + membership_.heartbeat_timeout));
    v1::PutRendezvousRequest request;
    request.set_group(membership_.group);
    request.set_group_epoch(membership_.group_epoch.value());
    request.set_key(key);
    request.set_value(value);
    v1::PutRendezvousResponse response;
    return FromGrpcStatus(stub_->PutRendezvous(&context, request, &response));
  }

  absl::StatusOr<std::vector<std::string>> Get(
      absl::Span<const std::string> keys, absl::Duration timeout) override {
    grpc::ClientContext context;
    context.set_deadline(DeadlineIn(timeout));
    v1::GetRendezvousRequest request;
    request.set_group(membership_.group);
    request.set_group_epoch(membership_.group_epoch.value());
    for (const std::string& key : keys) request.add_keys(key);
    v1::GetRendezvousResponse response;
    const grpc::Status status =
        stub_->GetRendezvous(&context, request, &response);
    if (!status.ok()) return FromGrpcStatus(status);
    if (response.values_size() != static_cast<int>(keys.size())) {
      return absl::InternalError(
          absl::StrCat("the coordinator returned ", response.values_size(),
                       " rendezvous values for ", keys.size(), " keys"));
    }
    return std::vector<std::string>(response.values().begin(),
                                    response.values().end());
  }

 private:
  v1::Cluster::Stub* const stub_;
  const Membership membership_;
};

class GrpcClusterLink final : public ClusterLink {
 public:
  GrpcClusterLink(const Membership& membership,
                  const ClusterLinkOptions& options,
                  std::function<StepId()> last_step,
                  std::function<void(const absl::Status&)> on_lost)
      : stub_(v1::Cluster::NewStub(
            Connect(options.coordinator, membership.heartbeat_timeout))),
        membership_(membership),
        options_(options),
        last_step_(std::move(last_step)),
        on_lost_(std::move(on_lost)),
        board_(stub_.get(), membership),
        stream_(stub_->Heartbeat(&context_)),
        writer_([this] { Write(); }),
        reader_([this] { Read(); }) {}

  ~GrpcClusterLink() override {
    {
      absl::MutexLock lock(&mutex_);
      leaving_ = true;
    }
    context_.TryCancel();
    writer_.join();
    reader_.join();
  }

  const Membership& membership() const override { return membership_; }
  KeyBoard* board() override { return &board_; }

 private:
  // Sends heartbeats until leaving or the stream breaks.
  void Write() {
    while (true) {
      v1::HeartbeatRequest beat;
      beat.set_instance_id(options_.instance_id);
      beat.set_coordinator_epoch(membership_.coordinator_epoch.value());
      beat.set_group_epoch(membership_.group_epoch.value());
      beat.set_last_step_id(last_step_().value());
      if (!stream_->Write(beat)) return;
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&leaving_),
                                  membership_.heartbeat_period)) {
        return;
      }
    }
  }

  // Waits for the stream's end, which is the coordinator's or ours.
  void Read() {
    v1::HeartbeatResponse response;
    while (stream_->Read(&response)) {
    }
    const grpc::Status status = stream_->Finish();
    {
      absl::MutexLock lock(&mutex_);
      if (leaving_) return;
      leaving_ = true;  // the writer has nobody to talk to
    }
    on_lost_(status.ok() ? absl::UnavailableError("it closed the connection")
                         : FromGrpcStatus(status));
  }

  const std::unique_ptr<v1::Cluster::Stub> stub_;
  const Membership membership_;
  const ClusterLinkOptions options_;
  const std::function<StepId()> last_step_;
  const std::function<void(const absl::Status&)> on_lost_;
  CoordinatorBoard board_;

  absl::Mutex mutex_;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;

  grpc::ClientContext context_;
  const std::unique_ptr<
      grpc::ClientReaderWriter<v1::HeartbeatRequest, v1::HeartbeatResponse>>
      stream_;
  std::thread writer_;
  std::thread reader_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterLink>> ClusterLink::Join(
    const ClusterLinkOptions& options, std::function<StepId()> last_step,
    std::function<void(const absl::Status&)> on_lost) {
  const std::unique_ptr<v1::Cluster::Stub> stub = v1::Cluster::NewStub(
      Connect(options.coordinator, kLeastHeartbeatTimeout));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(DeadlineIn(options.join_timeout));
  v1::RegisterRequest request;
  request.set_address(options.address);
  request.set_instance_id(options.instance_id);
  request.set_device(options.device);
  if (options.group.has_value()) request.set_group(*options.group);
  if (options.rank.has_value()) request.set_rank(*options.rank);
  request.set_pid(getpid());
  request.set_version(options.version);
  v1::RegisterResponse response;
  const grpc::Status status = stub->Register(&context, request, &response);
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::UnavailableError(absl::StrCat(
        "no coordinator answered at ", options.coordinator, " within ",
        absl::FormatDuration(options.join_timeout),
        "; start it, or give its control port with --coordinator=host:port"));
  }
  if (!status.ok()) return FromGrpcStatus(status);

  Membership membership;
  membership.group = response.group();
  membership.rank = response.rank();
  membership.world_size = response.world_size();
  membership.coordinator_epoch = Epoch(response.coordinator_epoch());
  membership.group_epoch = Epoch(response.group_epoch());
  membership.heartbeat_period =
      response.heartbeat_period_s() > 0
          ? absl::Seconds(response.heartbeat_period_s())
          : kDefaultHeartbeatPeriod;
  membership.heartbeat_timeout = std::max(
      kLeastHeartbeatTimeout, absl::Seconds(response.heartbeat_timeout_s()));
  return std::make_unique<GrpcClusterLink>(
      membership, options, std::move(last_step), std::move(on_lost));
}

}  // namespace quire
