// SPDX-License-Identifier: Apache-2.0
//
// A scripted coordinator against a worker behind its own gRPC port.
#include "worker/service/worker_service.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/wire/step_plan_wire.h"
#include "gtest/gtest.h"
#include "proto/worker.grpc.pb.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/collective/solo.h"
#include "worker/service/worker_core.h"
#include "worker/service/worker_server.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 50;

// `device` is where the executor's device, which is its own, can be reached.
absl::StatusOr<std::unique_ptr<Executor>> MakeExecutor(
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
  parts.model =
      std::make_unique<FakeModel>(parts.collective.get(), kVocab, spec.limits);
  parts.limits = spec.limits;
  parts.block_size = spec.block_size;
  parts.vocab_size = kVocab;
  return Executor::Create(std::move(parts), clock);
}

// Rank 0 of 1 in group epoch 7 under coordinator epoch 3.
class WorkerServiceTest : public testing::Test {
 protected:
  WorkerServiceTest()
      : core_(&clock_, [this](const absl::Status& cause) {
          lost_devices_.push_back(std::string(cause.message()));
        }) {
    service_ = MakeWorkerService(&core_, [this] { server_->SetReady(); });
    server_ = *WorkerServer::Start("127.0.0.1", 0, service_.get());
    stub_ = v1::Worker::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                            grpc::InsecureChannelCredentials()));
    core_.Join(Epoch(3), Epoch(7), /*rank=*/0, /*world_size=*/1,
               [this](const LoadSpec& spec, const LoadObserver& observer) {
                 return MakeExecutor(spec, observer, &clock_, &device_);
               });
  }

  ~WorkerServiceTest() override {
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

  const RealClock clock_;
  FakeBackend* device_ = nullptr;
  std::vector<std::string> lost_devices_;  // the executor thread's
  WorkerCore core_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<WorkerServer> server_;
  std::unique_ptr<v1::Worker::Stub> stub_;
};

TEST_F(WorkerServiceTest, RunsPlansThatComeAheadOfTheirResults) {
  std::vector<std::string> phases;
  ASSERT_TRUE(Load(LoadRequest(), &phases).ok());
  ASSERT_GE(phases.size(), 2);  // a waiting message is overtaken by the next
  EXPECT_EQ(phases.front(), "collective");
  EXPECT_EQ(phases.back(), "done");
  v1::ProfileResponse profile;
  ASSERT_TRUE(Profile(0.75, Now(), &profile).ok());
  EXPECT_EQ(profile.kv_bytes(), 1 << 28);
  EXPECT_EQ(profile.block_bytes(), 32);
  EXPECT_FALSE(core_.is_ready());
  ASSERT_TRUE(AllocateKv(16).ok());
  EXPECT_TRUE(core_.is_ready());

  std::vector<StepPlan> plans;
  for (uint64_t step = 1; step <= 9; ++step) plans.push_back(Plan(step));
  std::vector<StepResult> results;
  const grpc::Status status = Run(plans, &results);
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(results.size(), 9);
  std::vector<TokenId> tokens = {1, 2, 3};
  for (uint64_t step = 1; step <= 9; ++step) {
    const auto logits = FakeModel::LogitsAfter(tokens, kVocab);
    const TokenId expected = static_cast<TokenId>(
        std::max_element(logits.begin(), logits.end()) - logits.begin());
    EXPECT_EQ(results[step - 1].identity, plans[step - 1].identity);
    ASSERT_EQ(results[step - 1].tokens, std::vector<TokenId>{expected});
    tokens.push_back(expected);
  }
  EXPECT_EQ(core_.last_step(), StepId(9));
}

TEST_F(WorkerServiceTest, ALostDeviceIsToldOnceWithItsCause) {
  GetReady();
  std::vector<StepResult> results;
  ASSERT_TRUE(Run({Plan(1)}, &results).ok());
  device_->Break(absl::InternalError("norm: an illegal memory access"));
  const grpc::Status status = Run({Plan(2), Plan(3)}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "step 2: norm: an illegal memory access");
  ASSERT_TRUE(core_.Stop(absl::InfiniteDuration()));
  EXPECT_EQ(lost_devices_,
            std::vector<std::string>{"norm: an illegal memory access"});
}

TEST_F(WorkerServiceTest, APlanThatContradictsIsNoLostDevice) {
  GetReady();
  std::vector<StepResult> results;
  StepPlan wrong = Plan(2);
  wrong.decodes = {SlotId(3)};
  const grpc::Status status = Run({Plan(1), wrong, Plan(3)}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "step 2: slot 3: holds no sequence");
  EXPECT_EQ(results.size(), 1);  // the step before is not lost
  ASSERT_TRUE(core_.Stop(absl::InfiniteDuration()));
  EXPECT_TRUE(lost_devices_.empty());
}

TEST_F(WorkerServiceTest, AWrongEpochEndsTheStream) {
  GetReady();
  for (const auto& [coordinator, group] :
       {std::pair<uint64_t, uint64_t>{2, 7}, {3, 6}, {3, 8}}) {
    StepPlan plan = Plan(1);
    plan.identity.coordinator_epoch = Epoch(coordinator);
    plan.identity.group_epoch = Epoch(group);
    std::vector<StepResult> results;
    EXPECT_EQ(Run({plan}, &results).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_TRUE(results.empty());
  }
}

TEST_F(WorkerServiceTest, AGapEndsTheStreamAfterTheResultsBeforeIt) {
  GetReady();
  std::vector<StepResult> results;
  const grpc::Status status = Run({Plan(1), Plan(2), Plan(4)}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "step 4 came where 3 was due");
  EXPECT_EQ(results.size(), 2);
  // The stream may be opened again where it was left.
  results.clear();
  EXPECT_TRUE(Run({Plan(3)}, &results).ok());
  EXPECT_EQ(results.size(), 1);
}

TEST_F(WorkerServiceTest, AContradictionIsInternalAndEndsTheEpoch) {
  GetReady();
  StepPlan plan = Plan(2);
  plan.identity.step_id = StepId(1);
  plan.decodes = {SlotId(2)};
  std::vector<StepResult> results;
  const grpc::Status status = Run({plan}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "step 1: slot 2: holds no sequence");
  EXPECT_EQ(Run({Plan(1)}, &results).error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(results.empty());
  EXPECT_EQ(core_.last_step(), StepId(0));
}

TEST_F(WorkerServiceTest, AMalformedPlanIsInternalAndNamesTheField) {
  GetReady();
  grpc::ClientContext context;
  const auto stream = stub_->Run(&context);
  v1::StepPlan message;
  message.add_appended_blocks(1);
  ASSERT_TRUE(stream->Write(message));
  v1::StepResult result;
  EXPECT_FALSE(stream->Read(&result));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(),
            "appended_blocks: 1 numbers are not a multiple of 2");
}

TEST_F(WorkerServiceTest, ASecondStreamIsRefusedWhileTheFirstIsOpen) {
  GetReady();
  grpc::ClientContext context;
  const auto first = stub_->Run(&context);
  v1::StepPlan message;
  EncodeStepPlan(Plan(1), &message);
  ASSERT_TRUE(first->Write(message));
  v1::StepResult result;
  ASSERT_TRUE(first->Read(&result));
  std::vector<StepResult> results;
  EXPECT_EQ(Run({Plan(2)}, &results).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EncodeStepPlan(Plan(2), &message);
  ASSERT_TRUE(first->Write(message));
  ASSERT_TRUE(first->Read(&result));
  EXPECT_EQ(result.step_id(), 2);
  context.TryCancel();
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(WorkerServiceTest, CommandsOutOfOrderAreRefused) {
  v1::ProfileResponse profile;
  EXPECT_EQ(Profile(0.5, Now(), &profile).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(AllocateKv(16).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  std::vector<StepResult> results;
  EXPECT_EQ(Run({Plan(1)}, &results).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  GetReady();
  EXPECT_EQ(Load(LoadRequest()).error_message(), "a model is loaded already");
  EXPECT_EQ(Profile(1.5, Now(), &profile).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Profile(0.5, Now(3, 6), &profile).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(AllocateKv(16, Now(2, 7)).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(AllocateKv(1u << 31).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkerServiceTest, AFailedLoadSaysWhyAndMayBeTriedAgain) {
  v1::LoadRequest request = LoadRequest();
  request.set_model_path("elsewhere");
  const grpc::Status missing = Load(request);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(missing.error_message(), "elsewhere is not there");
  request = LoadRequest();
  request.set_world_size(2);
  EXPECT_EQ(Load(request).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  request = LoadRequest();
  *request.mutable_epoch() = Now(1, 7);
  EXPECT_EQ(Load(request).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(Load(LoadRequest()).ok());
}

}  // namespace
}  // namespace quire
