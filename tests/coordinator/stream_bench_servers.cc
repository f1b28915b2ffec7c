// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/stream_bench_servers.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/wire/step_plan_wire.h"
#include "coordinator/coordinator.h"
#include "glog/logging.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/inference.grpc.pb.h"
#include "proto/worker.grpc.pb.h"
#include "tests/coordinator/bench_rank.h"
#include "worker/batch/slot_state.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr int32_t kNumBlocks =
    kBenchMaxNumSeqs * (kBenchMaxModelLen / kBlockSize);
constexpr int32_t kVocabSize = 4096;

class Worker final : public v1::Worker::Service {
 public:
  explicit Worker(absl::Duration step) : step_(step) {}

  grpc::Status Load(grpc::ServerContext*, const v1::LoadRequest*,
                    grpc::ServerWriter<v1::LoadProgress>* writer) override {
    v1::LoadProgress progress;
    progress.set_phase("done");
    writer->Write(progress);
    return grpc::Status::OK;
  }
  grpc::Status Profile(grpc::ServerContext*, const v1::ProfileRequest*,
                       v1::ProfileResponse* response) override {
    response->set_block_bytes(1000);
    response->set_kv_bytes(uint64_t{1000} * kNumBlocks);
    response->set_step_us(1000);
    response->set_block_tokens(kBlockSize);
    return grpc::Status::OK;
  }
  grpc::Status AllocateKv(grpc::ServerContext*, const v1::AllocateKvRequest*,
                          v1::AllocateKvResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status Run(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::StepResult, v1::StepPlan>* stream) override {
    SlotLimits limits;
    limits.max_num_seqs = kBenchMaxNumSeqs;
    limits.max_model_len = kBenchMaxModelLen;
    limits.block_size = kBlockSize;
    limits.num_blocks = kNumBlocks;
    limits.vocab_size = kVocabSize;
    BenchRank rank(limits);
    PlanInbox inbox(stream);
    absl::Time end = absl::Now();
    ArrivedPlan arrived;
    while (inbox.Take(&arrived)) {
      end = std::max(arrived.time, end) + step_;
      absl::SleepFor(end - absl::Now());
      StepResult result = rank.Answer(arrived.plan, [this] { return Draw(); });
      result.step_us = static_cast<int32_t>(absl::ToInt64Microseconds(step_));
      v1::StepResult message;
      EncodeStepResult(result, &message);
      stream->Write(message);
    }
    return grpc::Status::OK;
  }

 private:
  TokenId Draw() {
    random_ = random_ * 6364136223846793005 + 1442695040888963407;
    return kBenchFirstToken + (random_ >> 33) % (kVocabSize - kBenchFirstToken);
  }

  const absl::Duration step_;
  uint64_t random_ = 1;
};

// A stream of the bare server's, and what its queue tells of it.
struct BareCall {
  grpc::ServerContext rpc;
  v1::GenerateRequest request;
  grpc::ServerAsyncWriter<v1::GenerateResponse> writer{&rpc};
  v1::GenerateResponse response;
  int64_t num_written = 0;
  bool has_begun = false;
  bool is_writing = false;
  bool is_over = false;
};

class BareServer {
 public:
  explicit BareServer(absl::Duration step) : step_(step) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(&service_);
    queue_ = builder.AddCompletionQueue();
    server_ = builder.BuildAndStart();
    for (int i = 0; i < 32; ++i) Ask();
  }
  int port() const { return port_; }

  [[noreturn]] void Run() {
    absl::Time next = absl::Now() + step_;
    while (true) {
      void* tag = nullptr;
      bool ok = false;
      if (queue_->AsyncNext(&tag, &ok, absl::ToChronoTime(next)) ==
          grpc::CompletionQueue::GOT_EVENT) {
        Handle(static_cast<BareCall*>(tag), ok);
        continue;
      }
      next += step_;
      for (BareCall* call : calls_) {
        if (!call->is_writing) Write(call);
      }
    }
  }

 private:
  void Ask() {
    auto* call = new BareCall;
    service_.RequestGenerate(&call->rpc, &call->request, &call->writer,
                             queue_.get(), queue_.get(), call);
  }

  void Handle(BareCall* call, bool ok) {
    call->is_writing = false;
    if (!call->has_begun) {
      call->has_begun = true;
      calls_.insert(call);
      Ask();
    } else if (call->is_over) {
      delete call;
    } else if (!ok) {
      call->is_over = true;
      calls_.erase(call);
      call->writer.Finish(grpc::Status::OK, call);
    }
  }

  static void Write(BareCall* call) {
    call->response.set_request_id("gen-0123456789abcdef");
    v1::Chunk* chunk = call->response.mutable_chunk();
    chunk->set_token_offset(call->num_written++);
    chunk->clear_token_ids();
    chunk->add_token_ids(kBenchFirstToken);
    chunk->set_text(" token");
    call->is_writing = true;
    call->writer.Write(call->response, call);
  }

  const absl::Duration step_;
  int port_ = 0;
  v1::Inference::AsyncService service_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::set<BareCall*> calls_;
};

}  // namespace

void BeWorker(const std::string& control_address, absl::Duration step) {
  Worker worker(step);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(&worker);
  const auto server = builder.BuildAndStart();
  const auto stub = v1::Cluster::NewStub(
      grpc::CreateChannel(control_address, grpc::InsecureChannelCredentials()));
  v1::RegisterRequest request;
  request.set_address(absl::StrCat("127.0.0.1:", port));
  request.set_instance_id(getpid());
  request.set_device("cpu");
  v1::RegisterResponse seat;
  grpc::ClientContext rpc;
  CHECK(stub->Register(&rpc, request, &seat).ok());
  grpc::ClientContext beats;
  const auto stream = stub->Heartbeat(&beats);
  v1::HeartbeatRequest beat;
  v1::HeartbeatResponse answer;
  beat.set_instance_id(getpid());
  beat.set_coordinator_epoch(seat.coordinator_epoch());
  beat.set_group_epoch(seat.group_epoch());
  while (stream->Write(beat) && stream->Read(&answer)) {
    absl::SleepFor(absl::Milliseconds(500));
  }
  _exit(0);
}

void BeCoordinator(const std::string& model) {
  CoordinatorOptions options;
  options.model = model;
  options.port = options.control_port = options.metrics_port = 0;
  options.max_model_len = kBenchMaxModelLen;
  options.engine.block_size = kBlockSize;
  options.engine.max_num_seqs = kBenchMaxNumSeqs;
  options.engine.max_num_batched_tokens = 8192;
  RealClock clock;
  CoordinatorCallbacks callbacks;
  callbacks.on_ready = [](int32_t, const std::string&) {
    std::printf("ready\n");
    std::fflush(stdout);
  };
  const auto coordinator =
      Coordinator::Start(options, std::move(callbacks), &clock);
  CHECK(coordinator.ok()) << coordinator.status();
  std::printf("%s %s\n", (*coordinator)->public_address().c_str(),
              (*coordinator)->control_address().c_str());
  std::fflush(stdout);
  while (true) pause();
}

void BeBareServer(absl::Duration step) {
  BareServer server(step);
  std::printf("127.0.0.1:%d -\n", server.port());
  std::fflush(stdout);
  server.Run();
}

}  // namespace quire
