// SPDX-License-Identifier: Apache-2.0
#include "worker/service/worker_service.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/status_wire.h"
#include "proto/worker.grpc.pb.h"
#include "worker/service/load_call.h"
#include "worker/service/run_call.h"

namespace quire {
namespace {

// A Run call that is refused at once.
class RefusedRun final
    : public grpc::ServerBidiReactor<v1::StepPlan, v1::StepResult> {
 public:
  explicit RefusedRun(const absl::Status& status) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

void FillLinks(const RankLinks& links, v1::ProfileResponse* response) {
  response->set_collective(links.collective);
  for (const std::string& link : links.links) response->add_links(link);
  for (const AllReduceTime& time : links.all_reduce) {
    response->add_all_reduce_bytes(time.bytes);
    response->add_all_reduce_us(time.us);
  }
}

class WorkerServiceImpl final : public v1::Worker::CallbackService {
 public:
  WorkerServiceImpl(WorkerCore* core, std::function<void()> on_ready)
      : core_(core), on_ready_(std::move(on_ready)) {}

  grpc::ServerWriteReactor<v1::LoadProgress>* Load(
      grpc::CallbackServerContext*, const v1::LoadRequest* request) override {
    return LoadCall::Start(core_, *request);
  }

  grpc::ServerUnaryReactor* Profile(grpc::CallbackServerContext* context,
                                    const v1::ProfileRequest* request,
                                    v1::ProfileResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    core_->Profile(
        Epoch(request->epoch().coordinator_epoch()),
        Epoch(request->epoch().group_epoch()), request->memory_utilization(),
        [=](const absl::StatusOr<MemoryProfile>& profile) {
          if (profile.ok()) {
            response->set_kv_bytes(profile->kv_bytes);
            response->set_block_bytes(profile->block_bytes);
            response->set_block_tokens(profile->block_tokens);
            response->set_weight_bytes(profile->weight_bytes);
            response->set_activation_bytes(profile->activation_bytes);
            response->set_step_us(
                absl::ToInt64Microseconds(profile->largest_step));
            response->set_swap_bytes_per_second(profile->swap_bytes_per_second);
            FillLinks(profile->links, response);
          }
          reactor->Finish(ToGrpcStatus(profile.status()));
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* AllocateKv(grpc::CallbackServerContext* context,
                                       const v1::AllocateKvRequest* request,
                                       v1::AllocateKvResponse*) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    constexpr uint32_t kMost = std::numeric_limits<int32_t>::max();
    if (request->num_blocks() > kMost || request->num_host_blocks() > kMost) {
      reactor->Finish(ToGrpcStatus(absl::InvalidArgumentError(
          absl::StrCat("a KV cache of ", request->num_blocks(), " blocks and ",
                       request->num_host_blocks(), " host blocks"))));
      return reactor;
    }
    core_->AllocateKv(Epoch(request->epoch().coordinator_epoch()),
                      Epoch(request->epoch().group_epoch()),
                      static_cast<int32_t>(request->num_blocks()),
                      static_cast<int32_t>(request->num_host_blocks()),
                      [this, reactor](const absl::Status& status) {
                        if (status.ok()) on_ready_();
                        reactor->Finish(ToGrpcStatus(status));
                      });
    return reactor;
  }

  grpc::ServerBidiReactor<v1::StepPlan, v1::StepResult>* Run(
      grpc::CallbackServerContext*) override {
    if (is_running_.exchange(true)) {
      return new RefusedRun(absl::FailedPreconditionError(
          "another Run stream commands this worker"));
    }
    return RunCall::Start(core_, [this] { is_running_ = false; });
  }

 private:
  WorkerCore* const core_;
  const std::function<void()> on_ready_;
  std::atomic<bool> is_running_ = false;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkerService(
    WorkerCore* core, std::function<void()> on_ready) {
  return std::make_unique<WorkerServiceImpl>(core, std::move(on_ready));
}

}  // namespace quire
