// SPDX-License-Identifier: Apache-2.0
//
// What steps of several ranks and several groups cost the coordinator: engine
// loops and dispatchers as in a server, over real gRPC to workers of another
// process, which keep tables and take a set time for a step but compute
// nothing. Every sequence decodes.
//
//   bazel run --config=opt //tests/coordinator:group_step_bench --
//       --step=1ms,8ms --shapes=1x1,1x8,4x2 --batches=1,32,256
//
// For each step, batch (of each group) and shape (groups x ranks):
//   encode   a plan to bytes, once for all ranks
//   bytes    of a plan on the wire, and of all ranks' together
//   send     plan handed to every rank's stream, encoding included
//   react    the last rank's result to the next plan's being sent
//   gap      that the slowest rank had no plan for, between steps
//   cpu      of the coordinator's process; 100% is a core
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/wire/step_plan_wire.h"
#include "coordinator/dispatch/grpc_dispatcher.h"
#include "coordinator/dispatch/worker_channel.h"
#include "coordinator/engine/engine_loop.h"
#include "glog/logging.h"
#include "proto/worker.grpc.pb.h"
#include "tests/coordinator/bench_rank.h"
#include "worker/batch/slot_state.h"

ABSL_FLAG(std::vector<std::string>, shapes,
          std::vector<std::string>({"1x1", "1x2", "1x4", "1x8", "4x1", "4x2"}),
          "groups x ranks");
ABSL_FLAG(std::vector<std::string>, batches,
          std::vector<std::string>({"1", "32", "256"}),
          "sequences of each group");
ABSL_FLAG(std::vector<std::string>, step,
          std::vector<std::string>({"1ms", "2ms", "8ms"}),
          "what a step takes every worker");
ABSL_FLAG(absl::Duration, time, absl::Seconds(2), "measured of each line");
ABSL_FLAG(int, workers, 0, "be that many workers; the bench starts itself so");

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;
constexpr int32_t kNumPromptTokens = 300;
constexpr int32_t kMaxModelLen = 8192;
constexpr int32_t kMaxNumSeqs = 256;
constexpr int32_t kNumBlocks = kMaxNumSeqs * (kMaxModelLen / kBlockSize);
constexpr TokenId kToken = 7;

class Worker final : public v1::Worker::Service {
 public:
  explicit Worker(absl::Duration step) : step_(step) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  int port() const { return port_; }

  grpc::Status Run(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::StepResult, v1::StepPlan>* stream) override {
    SlotLimits limits;
    limits.max_num_seqs = kMaxNumSeqs;
    limits.max_model_len = kMaxModelLen;
    limits.block_size = kBlockSize;
    limits.num_blocks = kNumBlocks;
    limits.vocab_size = 1000;
    BenchRank rank(limits);
    PlanInbox inbox(stream);
    absl::Time end = absl::Now();
    ArrivedPlan arrived;
    while (inbox.Take(&arrived)) {
      const absl::Duration gap =
          std::max(absl::ZeroDuration(), arrived.time - end);
      absl::SleepFor(std::max(arrived.time, end) + step_ - absl::Now());
      StepResult result = rank.Answer(arrived.plan, [] { return kToken; });
      // Where a step's time goes, the gap before it is told.
      result.step_us = static_cast<int32_t>(absl::ToInt64Microseconds(gap));
      v1::StepResult message;
      EncodeStepResult(result, &message);
      end = absl::Now();
      stream->Write(message);
    }
    return grpc::Status::OK;
  }

 private:
  const absl::Duration step_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

absl::Duration StepOf(const std::string& text) {
  absl::Duration step;
  CHECK(absl::ParseDuration(text, &step) && step > absl::ZeroDuration())
      << text;
  return step;
}

void BeWorkers(int num_workers) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const absl::Duration step = StepOf(absl::GetFlag(FLAGS_step).front());
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < num_workers; ++i) {
    workers.push_back(std::make_unique<Worker>(step));
    std::printf("%d\n", workers.back()->port());
  }
  std::fflush(stdout);
  while (true) pause();
}

// Starts this program again, as workers of such steps. Their addresses.
// REQUIRES: there is one thread.
std::vector<std::string> StartWorkers(int num_workers, absl::Duration step) {
  int fds[2];
  PCHECK(pipe(fds) == 0);
  const pid_t pid = fork();
  PCHECK(pid >= 0);
  if (pid == 0) {
    dup2(fds[1], STDOUT_FILENO);
    const std::string workers = absl::StrCat("--workers=", num_workers);
    const std::string steps =
        absl::StrCat("--step=", absl::FormatDuration(step));
    execl("/proc/self/exe", "workers", workers.c_str(), steps.c_str(), nullptr);
    _exit(1);
  }
  close(fds[1]);
  std::FILE* from = fdopen(fds[0], "r");
  std::vector<std::string> addresses;
  int port = 0;
  while (static_cast<int>(addresses.size()) < num_workers) {
    CHECK_EQ(std::fscanf(from, "%d", &port), 1) << "workers did not start";
    addresses.push_back(absl::StrCat("127.0.0.1:", port));
  }
  return addresses;
}

double Us(absl::Duration duration) {
  return absl::ToDoubleMicroseconds(duration);
}

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * (values.size() - 1))];
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / values.size();
}

absl::Duration CpuTime() {
  rusage usage;
  PCHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return absl::DurationFromTimeval(usage.ru_utime) +
         absl::DurationFromTimeval(usage.ru_stime);
}

class NoListener final : public OutputListener {
 public:
  void OnOutputs(std::vector<SequenceOutput>) override {}
};

// An engine and its workers, with ears between engine and dispatcher.
class Group final : public Dispatcher, public DispatchListener {
 public:
  Group(std::vector<GrpcDispatcher::Rank> ranks, int32_t num_seqs,
        uint64_t epoch, OutputListener* listener, Clock* clock)
      : dispatcher_(StepWatchdog::Options(), clock, this, nullptr) {
    EngineOptions options;
    options.max_num_seqs = kMaxNumSeqs;
    options.max_num_batched_tokens = 8192;
    options.max_model_len = kMaxModelLen;
    options.block_size = kBlockSize;
    auto engine = EngineLoop::Create(options, listener, clock);
    CHECK(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    engine_->Start(this);
    dispatcher_.Open({.coordinator_epoch = Epoch(1),
                      .group_epoch = Epoch(epoch),
                      .num_blocks = kNumBlocks},
                     std::move(ranks), absl::Seconds(10));
    CHECK(engine_->AwaitReady(absl::InfiniteFuture()));
    for (int32_t i = 0; i < num_seqs; ++i) {
      EngineRequest request;
      request.request_id = absl::StrCat(i);
      // Lengths apart, so that blocks are not all taken in the same step.
      request.prompt.assign(kNumPromptTokens - i % kBlockSize, kToken + i);
      request.use_prefix_cache = false;
      request.sampling.max_tokens = kMaxModelLen - kNumPromptTokens;
      CHECK(engine_->Submit(std::move(request)).ok());
    }
    while (engine_->Stats().num_generated_tokens < 4 * num_seqs) {
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  ~Group() override {
    engine_->Stop();
    dispatcher_.Close(Epoch(epoch_), absl::CancelledError("done"));
  }

  void Measure(bool on) {
    absl::MutexLock lock(&mutex_);
    measures_ = on;
    engine_->TakeMetrics();
  }
  EngineMetrics TakeMetrics() { return engine_->TakeMetrics(); }

  void Send(const StepPlan& plan) override {
    const absl::Time begin = absl::Now();
    dispatcher_.Send(plan);
    const absl::Time end = absl::Now();
    absl::MutexLock lock(&mutex_);
    if (result_.has_value()) react_us_.push_back(Us(end - *result_));
    result_.reset();
    if (!measures_) {
      react_us_.clear();
      return;
    }
    send_us_.push_back(Us(end - begin));
    if (send_us_.size() % 8 != 0) return;
    const absl::Time encode = absl::Now();
    v1::StepPlan message;
    EncodeStepPlan(plan, &message);
    const std::string bytes = message.SerializeAsString();
    encode_us_.push_back(Us(absl::Now() - encode));
    num_bytes_.push_back(static_cast<double>(bytes.size()));
  }
  void OnGroupReady(const GroupReady& group) override {
    epoch_ = group.group_epoch.value();
    engine_->OnGroupReady(group);
  }
  void OnStepResult(StepResult result) override {
    {
      absl::MutexLock lock(&mutex_);
      result_ = absl::Now();
    }
    engine_->OnStepResult(std::move(result));
  }
  void OnGroupLost(Epoch epoch, const absl::Status& cause) override {
    if (!absl::IsCancelled(cause)) LOG(ERROR) << cause;
    engine_->OnGroupLost(epoch, cause);
  }

  const std::vector<double>& send_us() const { return send_us_; }
  const std::vector<double>& encode_us() const { return encode_us_; }
  const std::vector<double>& react_us() const { return react_us_; }
  const std::vector<double>& num_bytes() const { return num_bytes_; }

 private:
  std::unique_ptr<EngineLoop> engine_;
  uint64_t epoch_ = 0;
  absl::Mutex mutex_;
  bool measures_ = false;
  std::optional<absl::Time> result_;  // the last, since the last plan
  std::vector<double> send_us_, encode_us_, react_us_, num_bytes_;
  GrpcDispatcher dispatcher_;
};

void Append(const std::vector<double>& from, std::vector<double>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

void Run(int num_groups, int num_ranks, int num_seqs,
         const std::vector<std::string>& addresses) {
  static uint64_t epoch = 0;
  ++epoch;
  RealClock clock;
  NoListener listener;
  std::vector<std::unique_ptr<Group>> groups;
  for (int g = 0; g < num_groups; ++g) {
    std::vector<GrpcDispatcher::Rank> ranks;
    for (int r = 0; r < num_ranks; ++r) {
      const std::string& address = addresses[g * num_ranks + r];
      ranks.push_back({address, MakeWorkerChannel(address)});
    }
    groups.push_back(std::make_unique<Group>(std::move(ranks), num_seqs, epoch,
                                             &listener, &clock));
  }
  for (const auto& group : groups) group->Measure(true);
  const absl::Time begin = absl::Now();
  const absl::Duration cpu = CpuTime();
  absl::SleepFor(absl::GetFlag(FLAGS_time));
  const absl::Duration cpu_used = CpuTime() - cpu;
  const absl::Duration wall = absl::Now() - begin;
  std::vector<double> send, encode, react, bytes, gap;
  for (const auto& group : groups) {
    for (const StepSample& step : group->TakeMetrics().steps) {
      gap.push_back(step.step_us);
    }
    group->Measure(false);
  }
  for (auto& group : groups) {
    Append(group->send_us(), &send);
    Append(group->encode_us(), &encode);
    Append(group->react_us(), &react);
    Append(group->num_bytes(), &bytes);
  }
  groups.clear();
  std::printf(
      "%dx%d %6d %8.0f %9.1f %7.0f %8.0f %8.1f %8.1f %8.1f %8.1f %8.1f "
      "%6.1f%%\n",
      num_groups, num_ranks, num_seqs,
      static_cast<double>(gap.size()) / absl::ToDoubleSeconds(wall),
      Mean(encode), Mean(bytes), Mean(bytes) * num_ranks, Mean(send),
      Percentile(react, 0.5), Percentile(react, 0.99), Mean(gap),
      Percentile(gap, 0.99), 100 * absl::FDivDuration(cpu_used, wall));
  std::fflush(stdout);
}

struct Shape {
  int num_groups;
  int num_ranks;
};

std::vector<Shape> ShapesFromFlags() {
  std::vector<Shape> shapes;
  for (const std::string& text : absl::GetFlag(FLAGS_shapes)) {
    const std::vector<std::string> parts = absl::StrSplit(text, 'x');
    Shape shape;
    CHECK(parts.size() == 2 && absl::SimpleAtoi(parts[0], &shape.num_groups) &&
          absl::SimpleAtoi(parts[1], &shape.num_ranks))
        << text;
    shapes.push_back(shape);
  }
  return shapes;
}

// All lines of steps of one length.
void RunSteps(absl::Duration step, const std::vector<Shape>& shapes,
              const std::vector<std::string>& addresses) {
  std::printf("steps of %s; times in us\n", absl::FormatDuration(step).c_str());
  std::printf(
      "GxR    seqs  steps/s    encode   bytes  x ranks     send "
      "react50  react99  gap mean  gap 99    cpu\n");
  for (const std::string& batch : absl::GetFlag(FLAGS_batches)) {
    int num_seqs = 0;
    CHECK(absl::SimpleAtoi(batch, &num_seqs) && num_seqs <= kMaxNumSeqs)
        << batch;
    for (const Shape& shape : shapes) {
      Run(shape.num_groups, shape.num_ranks, num_seqs, addresses);
    }
  }
}

void Main() {
  const std::vector<Shape> shapes = ShapesFromFlags();
  int num_workers = 0;
  for (const Shape& shape : shapes) {
    num_workers = std::max(num_workers, shape.num_groups * shape.num_ranks);
  }
  std::vector<absl::Duration> steps;
  std::vector<std::vector<std::string>> addresses;  // of each step's workers
  for (const std::string& text : absl::GetFlag(FLAGS_step)) {
    steps.push_back(StepOf(text));
    addresses.push_back(StartWorkers(num_workers, steps.back()));
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    RunSteps(steps[i], shapes, addresses[i]);
  }
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  absl::ParseCommandLine(argc, argv);
  if (const int num_workers = absl::GetFlag(FLAGS_workers); num_workers > 0) {
    quire::BeWorkers(num_workers);
  }
  quire::Main();
}
