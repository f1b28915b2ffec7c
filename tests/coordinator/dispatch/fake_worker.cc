// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/dispatch/fake_worker.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/wire/status_wire.h"
#include "common/wire/step_plan_wire.h"
#include "glog/logging.h"
#include "proto/worker.grpc.pb.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {

// A thread per call: fakes are few.
class FakeWorker::Service final : public v1::Worker::Service {
 public:
  explicit Service(const FakeWorkerOptions& options) : options_(options) {}

  grpc::Status Load(grpc::ServerContext*, const v1::LoadRequest* request,
                    grpc::ServerWriter<v1::LoadProgress>* writer) override {
    {
      absl::MutexLock lock(&mutex_);
      load_called_ = true;
      is_virtual_ = request->virtual_page_bytes() > 0;
      num_sparse_pages = static_cast<int32_t>(request->sparse_pages());
      group_epoch_ = request->epoch().group_epoch();
    }
    v1::LoadProgress progress;
    progress.set_phase("weights");
    progress.set_bytes_done(50);
    progress.set_bytes_total(100);
    writer->Write(progress);
    if (options_.hang_in_load) {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&stopping));
      return grpc::Status::CANCELLED;
    }
    progress.set_phase("done");
    progress.set_bytes_done(100);
    writer->Write(progress);
    return ToGrpcStatus(options_.load_status);
  }

  grpc::Status Profile(grpc::ServerContext*, const v1::ProfileRequest* request,
                       v1::ProfileResponse* response) override {
    response->set_kv_bytes(options_.kv_bytes);
    response->set_swap_bytes_per_second(options_.swap_bytes_per_second);
    response->set_block_bytes(1000);
    response->set_step_us(1000);
    absl::MutexLock lock(&mutex_);
    memory_utilization = request->memory_utilization();
    response->set_block_tokens(is_virtual_ ? options_.group_tokens
                                           : options_.block_size);
    return grpc::Status::OK;
  }

  grpc::Status AllocateKv(grpc::ServerContext*,
                          const v1::AllocateKvRequest* request,
                          v1::AllocateKvResponse*) override {
    absl::MutexLock lock(&mutex_);
    num_allocated_blocks = request->num_blocks();
    num_allocated_host_blocks = request->num_host_blocks();
    return grpc::Status::OK;
  }

  grpc::Status Run(
      grpc::ServerContext* rpc,
      grpc::ServerReaderWriter<v1::StepResult, v1::StepPlan>* stream) override {
    SimulatedGroupOptions options;
    options.num_blocks =
        std::max(options_.num_blocks, num_allocated_blocks_now());
    options.block_size = options_.block_size;
    SimulatedWorkerGroup group(options);
    {
      absl::MutexLock lock(&mutex_);
      if (ending) return ToGrpcStatus(run_status);
      run_rpc_ = rpc;
    }
    v1::StepPlan message;
    bool has_begun = false;
    while (stream->Read(&message)) {
      StepPlan plan;
      const absl::Status decoded = DecodeStepPlan(message, &plan);
      if (!decoded.ok()) return ToGrpcStatus(decoded);
      if (!has_begun) {
        group.Begin(plan.identity.group_epoch.value());
        has_begun = true;
      }
      // The simulation names its own coordinator; this one commands here.
      const Epoch coordinator = plan.identity.coordinator_epoch;
      plan.identity.coordinator_epoch = group_coordinator_;
      group.Send(plan);
      if (!group.status().ok()) return ToGrpcStatus(group.status());
      std::optional<StepResult> result = group.TakeResult();
      CHECK(result.has_value());
      result->identity.coordinator_epoch = coordinator;
      if (!Answer(std::move(*result), stream)) break;
    }
    absl::MutexLock lock(&mutex_);
    run_rpc_ = nullptr;
    return ToGrpcStatus(run_status);
  }

  int32_t num_allocated_blocks_now() const {
    absl::MutexLock lock(&mutex_);
    return num_allocated_blocks;
  }

  void EndRun(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    run_status = status;
    ending = true;
    if (run_rpc_ != nullptr) run_rpc_->TryCancel();
  }

  mutable absl::Mutex mutex_;
  bool corrupt_tokens ABSL_GUARDED_BY(mutex_) = false;
  bool corrupt_tables ABSL_GUARDED_BY(mutex_) = false;
  bool old_epoch ABSL_GUARDED_BY(mutex_) = false;
  // Answers after which it is silent.
  int64_t max_answers ABSL_GUARDED_BY(mutex_) =
      std::numeric_limits<int64_t>::max();
  bool holding ABSL_GUARDED_BY(mutex_) = false;
  bool ending ABSL_GUARDED_BY(mutex_) = false;
  bool stopping ABSL_GUARDED_BY(mutex_) = false;
  bool load_called_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_virtual_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status run_status ABSL_GUARDED_BY(mutex_);
  int64_t num_plans ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_answers ABSL_GUARDED_BY(mutex_) = 0;
  int32_t num_allocated_blocks ABSL_GUARDED_BY(mutex_) = 0;
  int32_t num_allocated_host_blocks ABSL_GUARDED_BY(mutex_) = 0;
  int32_t num_sparse_pages ABSL_GUARDED_BY(mutex_) = 0;
  double memory_utilization ABSL_GUARDED_BY(mutex_) = 0;

 private:
  // False when the stream is to end.
  bool Answer(StepResult result,
              grpc::ServerReaderWriter<v1::StepResult, v1::StepPlan>* stream) {
    {
      absl::MutexLock lock(&mutex_);
      ++num_plans;
      const auto may_go_on = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return !holding || ending || stopping;
      };
      mutex_.Await(absl::Condition(&may_go_on));
      if (ending || stopping) return false;
      if (num_answers >= max_answers) return true;
      ++num_answers;
      if (corrupt_tokens) ++result.token_digest;
      if (corrupt_tables) ++result.table_digest;
      if (old_epoch) result.identity.group_epoch = Epoch(0);
    }
    v1::StepResult message;
    EncodeStepResult(result, &message);
    return stream->Write(message);
  }

  const FakeWorkerOptions options_;
  const Epoch group_coordinator_{1};
  grpc::ServerContext* run_rpc_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint64_t group_epoch_ ABSL_GUARDED_BY(mutex_) = 0;
};

struct FakeWorker::Server {
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

FakeWorker::FakeWorker(const FakeWorkerOptions& options)
    : service_(std::make_unique<Service>(options)),
      server_(std::make_unique<Server>()) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &server_->port);
  builder.RegisterService(service_.get());
  // As a worker: the coordinator's pings are welcome.
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  server_->server = builder.BuildAndStart();
}

FakeWorker::~FakeWorker() {
  {
    absl::MutexLock lock(&service_->mutex_);
    service_->stopping = true;
  }
  server_->server->Shutdown(std::chrono::system_clock::now());
}

std::string FakeWorker::address() const {
  return absl::StrCat("127.0.0.1:", server_->port);
}

void FakeWorker::CorruptTokenDigest() {
  absl::MutexLock lock(&service_->mutex_);
  service_->corrupt_tokens = true;
}

void FakeWorker::CorruptTableDigest() {
  absl::MutexLock lock(&service_->mutex_);
  service_->corrupt_tables = true;
}

void FakeWorker::AnswerForOldEpoch() {
  absl::MutexLock lock(&service_->mutex_);
  service_->old_epoch = true;
}

void FakeWorker::StopAnsweringAfter(int64_t num_answers) {
  absl::MutexLock lock(&service_->mutex_);
  service_->max_answers = num_answers;
}

void FakeWorker::HoldAnswers() {
  absl::MutexLock lock(&service_->mutex_);
  service_->holding = true;
}

void FakeWorker::ReleaseAnswers() {
  absl::MutexLock lock(&service_->mutex_);
  service_->holding = false;
}

void FakeWorker::EndRun(const absl::Status& status) {
  service_->EndRun(status);
}

int64_t FakeWorker::num_answers() const {
  absl::MutexLock lock(&service_->mutex_);
  return service_->num_answers;
}

void FakeWorker::AwaitPlans(int64_t num_plans) const {
  const auto enough = [this, num_plans]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(service_->mutex_) {
                            return service_->num_plans >= num_plans;
                          };
  absl::MutexLock lock(&service_->mutex_);
  service_->mutex_.Await(absl::Condition(&enough));
}

int32_t FakeWorker::num_allocated_host_blocks() const {
  absl::MutexLock lock(&service_->mutex_);
  return service_->num_allocated_host_blocks;
}

int32_t FakeWorker::num_sparse_pages() const {
  absl::MutexLock lock(&service_->mutex_);
  return service_->num_sparse_pages;
}

double FakeWorker::memory_utilization() const {
  absl::MutexLock lock(&service_->mutex_);
  return service_->memory_utilization;
}

int32_t FakeWorker::num_allocated_blocks() const {
  return service_->num_allocated_blocks_now();
}

void FakeWorker::AwaitLoad() const {
  absl::MutexLock lock(&service_->mutex_);
  service_->mutex_.Await(absl::Condition(&service_->load_called_));
}

}  // namespace quire
