// SPDX-License-Identifier: Apache-2.0
//
// A scripted coordinator against a worker behind its own gRPC port.
#ifndef TESTS_WORKER_SERVICE_SERVED_WORKER_H_
#define TESTS_WORKER_SERVICE_SERVED_WORKER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/wire/step_plan_wire.h"
#include "gtest/gtest.h"
#include "proto/worker.grpc.pb.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/collective/solo.h"
#include "worker/service/worker_core.h"
#include "worker/service/worker_server.h"
#include "worker/service/worker_service.h"

namespace quire {

inline constexpr int32_t kServedVocab = 50;

// `device` is where the executor's device, which is its own, can be reached.
inline absl::StatusOr<std::unique_ptr<Executor>> MakeServedExecutor(
    const LoadSpec& spec, const LoadObserver& observer, const Clock* clock,
    FakeBackend** device) {
  if (spec.model_path != "model") {
    return absl::NotFoundError(absl::StrCat(spec.model_path, " is not there"));
  }
  observer("collective", 0, 0);
  for (int i = 1; i <= 3; ++i) observer("weights", 10 * i, 30);
  ExecutorParts parts;
  auto backend = std::make_unique<FakeBackend>();
  backend->set_asynchronous();  // so that steps begin while others run
  *device = backend.get();
  parts.backend = std::move(backend);
  parts.collective = std::make_unique<SoloCollective>();
  parts.model = std::make_unique<FakeModel>(parts.collective.get(),
                                            kServedVocab, spec.limits);
  parts.limits = spec.limits;
  parts.block_size = spec.block_size;
  parts.vocab_size = kServedVocab;
  return Executor::Create(std::move(parts), clock);
}

// Rank 0 of 1 in group epoch 7 under coordinator epoch 3.
class ServedWorker : public testing::Test {
 protected:
  ServedWorker()
      : core_(&clock_, [this](const absl::Status& cause) {
          absl::MutexLock lock(&mutex_);
          lost_devices_.push_back(std::string(cause.message()));
        }) {
    service_ = MakeWorkerService(&core_, [this] { server_->SetReady(); });
    server_ = *WorkerServer::Start("127.0.0.1", 0, service_.get());
    stub_ = v1::Worker::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                            grpc::InsecureChannelCredentials()));
    core_.Join(Epoch(3), Epoch(7), /*rank=*/0, /*world_size=*/1,
               [this](const LoadSpec& spec, const LoadObserver& observer) {
                 absl::MutexLock lock(&mutex_);
                 spec_ = spec;
                 return MakeServedExecutor(spec, observer, &clock_, &device_);
               });
  }

  ~ServedWorker() override {
    core_.Stop(absl::InfiniteDuration());
    server_->Shutdown(absl::ZeroDuration());
  }

  static v1::EpochPair Now(uint64_t coordinator = 3, uint64_t group = 7) {
    v1::EpochPair epoch;
    epoch.set_coordinator_epoch(coordinator);
    epoch.set_group_epoch(group);
    return epoch;
  }

  static v1::LoadRequest LoadRequest() {
    v1::LoadRequest request;
    *request.mutable_epoch() = Now();
    request.set_model_path("model");
    request.set_world_size(1);
    request.set_max_num_seqs(4);
    request.set_max_num_batched_tokens(16);
    request.set_max_model_len(32);
    request.set_block_size(4);
    return request;
  }

  grpc::Status Load(const v1::LoadRequest& request,
                    std::vector<std::string>* phases = nullptr) {
    grpc::ClientContext context;
    const auto reader = stub_->Load(&context, request);
    v1::LoadProgress progress;
    while (reader->Read(&progress)) {
      if (phases != nullptr) phases->push_back(progress.phase());
    }
    return reader->Finish();
  }

  grpc::Status Profile(double utilization, const v1::EpochPair& epoch,
                       v1::ProfileResponse* response) {
    grpc::ClientContext context;
    v1::ProfileRequest request;
    *request.mutable_epoch() = epoch;
    request.set_memory_utilization(utilization);
    return stub_->Profile(&context, request, response);
  }

  grpc::Status AllocateKv(uint32_t num_blocks,
                          const v1::EpochPair& epoch = Now()) {
    grpc::ClientContext context;
    v1::AllocateKvRequest request;
    *request.mutable_epoch() = epoch;
    request.set_num_blocks(num_blocks);
    v1::AllocateKvResponse response;
    return stub_->AllocateKv(&context, request, &response);
  }

  void GetReady() {
    ASSERT_TRUE(Load(LoadRequest()).ok());
    ASSERT_TRUE(AllocateKv(16).ok());
  }

  // Sequence 1, 2, 3 in slot 0: step 1 admits it, the others decode.
  static StepPlan Plan(uint64_t step) {
    StepPlan plan;
    plan.identity = {Epoch(3), Epoch(7), StepId(step)};
    if (step > 1) {
      plan.decodes = {SlotId(0)};
      return plan;
    }
    AdmittedSlot admitted;
    admitted.slot = SlotId(0);
    admitted.tokens = {1, 2, 3};
    admitted.num_prompt_tokens = 3;
    admitted.sampling.temperature = 0;
    admitted.cache = std::vector<BlockId>{BlockId(5), BlockId(6), BlockId(2)};
    plan.admitted = {admitted};
    plan.chunks = {{SlotId(0), 3, true}};
    return plan;
  }

  // Sends the plans, all before the first result is read, and closes.
  grpc::Status Run(const std::vector<StepPlan>& plans,
                   std::vector<StepResult>* results) {
    grpc::ClientContext context;
    const auto stream = stub_->Run(&context);
    v1::StepPlan message;
    for (const StepPlan& plan : plans) {
      EncodeStepPlan(plan, &message);
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    v1::StepResult received;
    while (stream->Read(&received)) {
      results->emplace_back();
      EXPECT_TRUE(DecodeStepResult(received, &results->back()).ok());
    }
    return stream->Finish();
  }

  // The last that a load asked for.
  LoadSpec loaded_spec() const {
    absl::MutexLock lock(&mutex_);
    return spec_;
  }
  FakeBackend* device() const {
    absl::MutexLock lock(&mutex_);
    return device_;
  }
  std::vector<std::string> lost_devices() const {
    absl::MutexLock lock(&mutex_);
    return lost_devices_;
  }

  const RealClock clock_;
  // Of what the core's threads write. That a call has ended says that they have
  // done so, but not to ThreadSanitizer, which does not look into gRPC.
  mutable absl::Mutex mutex_;
  LoadSpec spec_ ABSL_GUARDED_BY(mutex_);
  FakeBackend* device_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<std::string> lost_devices_ ABSL_GUARDED_BY(mutex_);
  WorkerCore core_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<WorkerServer> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
};

}  // namespace quire

#endif  // TESTS_WORKER_SERVICE_SERVED_WORKER_H_
