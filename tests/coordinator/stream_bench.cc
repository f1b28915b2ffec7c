// SPDX-License-Identifier: Apache-2.0
//
// What a token costs the coordinator between its worker and its client: the
// whole coordinator, over real gRPC, with one rank in a process of its own that
// takes a set time for a step but computes nothing, and clients in another,
// which is this one. Every stream decodes.
//
//   bazel run --config=opt //tests/coordinator:stream_bench --
//       --streams=1,64,512 --step=50ms --turns=3
//
// For each number of streams:
//   tok/s     that clients received, and in how many messages
//   cpu       of the coordinator's process for 1,000 tokens a second, 100% is a
//             core; in user mode, in the kernel
//   switches  of its threads, for each token
//   gap       between two tokens of a stream as its client sees it, ms, with
//             the step in it
//   first     token's time, ms, of streams that begin at once
// With --bare instead of the coordinator a server that writes the same messages
// by gRPC and does nothing else: what gRPC leaves.
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/lock_order.h"
#include "glog/logging.h"
#include "proto/inference.grpc.pb.h"
#include "tests/coordinator/stream_bench_servers.h"

ABSL_FLAG(std::string, model, "tools/demo_model/model",
          "whose tokenizer the coordinator uses");
ABSL_FLAG(std::vector<std::string>, streams,
          std::vector<std::string>({"1", "64", "512"}), "at once");
ABSL_FLAG(int, channels, 4, "connections they are spread over");
ABSL_FLAG(absl::Duration, step, absl::Milliseconds(50),
          "what a step takes the worker");
ABSL_FLAG(absl::Duration, time, absl::Seconds(5), "measured of each line");
ABSL_FLAG(int, turns, 1, "lines of each number of streams");
ABSL_FLAG(bool, bare, false, "a server of gRPC's alone");
ABSL_FLAG(std::string, be, "", "the process to be; the bench starts itself so");
ABSL_FLAG(std::string, control, "", "of the worker: the control port");

namespace quire {
namespace {

constexpr int32_t kNumPromptTokens = 16;

struct Counts {
  std::atomic<int64_t> num_tokens{0};
  std::atomic<int64_t> num_messages{0};
  std::atomic<bool> measures{false};
  absl::Mutex mutex;
  std::vector<double> gaps_ms ABSL_GUARDED_BY(mutex);
  std::vector<double> first_ms ABSL_GUARDED_BY(mutex);
};

// A stream, until it is told to stop.
class Client final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Client(v1::Inference::Stub* stub, int idx, Counts* counts)
      : stub_(stub), counts_(counts) {
    for (int i = 0; i < kNumPromptTokens; ++i) {
      request_.mutable_token_ids()->add_ids(kBenchFirstToken +
                                            (idx + i) % 1000);
    }
    request_.mutable_sampling()->set_max_tokens(kBenchMaxModelLen -
                                                kNumPromptTokens);
    request_.mutable_sampling()->set_ignore_eos(true);
    context_ = std::make_unique<grpc::ClientContext>();
    stub_->async()->Generate(context_.get(), &request_, this);
    StartRead(&response_);
    last_ = absl::Now();
    StartCall();
  }
  void Stop() {
    context_->TryCancel();
    done_.WaitForNotification();
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return;
    const int num_tokens = response_.chunk().token_ids_size();
    counts_->num_tokens += num_tokens;
    ++counts_->num_messages;
    const absl::Time now = absl::Now();
    if (counts_->measures && num_tokens > 0) {
      const double ms = absl::ToDoubleMilliseconds(now - last_);
      absl::MutexLock lock(&counts_->mutex);
      counts_->gaps_ms.push_back(ms);
    } else if (response_.chunk().token_offset() == 0) {
      absl::MutexLock lock(&counts_->mutex);
      counts_->first_ms.push_back(absl::ToDoubleMilliseconds(now - last_));
    }
    last_ = now;
    StartRead(&response_);
  }
  void OnDone(const grpc::Status&) override { done_.Notify(); }

  v1::Inference::Stub* const stub_;
  Counts* const counts_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  absl::Time last_;
  absl::Notification done_;
};

// Starts this program again as what `be` names, with a flag of its own, and
// opens what it prints.
pid_t StartSelf(const std::string& be, const std::string& flag,
                std::FILE** from) {
  int fds[2];
  PCHECK(pipe(fds) == 0);
  const pid_t pid = fork();
  PCHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fds[1], STDOUT_FILENO);
    const std::string as = "--be=" + be;
    const std::string step =
        "--step=" + absl::FormatDuration(absl::GetFlag(FLAGS_step));
    const std::string model = "--model=" + absl::GetFlag(FLAGS_model);
    execl("/proc/self/exe", be.c_str(), as.c_str(), step.c_str(), model.c_str(),
          flag.c_str(), nullptr);
    _exit(1);
  }
  close(fds[1]);
  *from = fdopen(fds[0], "r");
  return pid;
}

std::string ReadWord(std::FILE* from) {
  char word[256];
  CHECK_EQ(std::fscanf(from, "%255s", word), 1) << "it did not start";
  return word;
}

struct Usage {
  double cpu_s = 0;
  double user_s = 0;
  int64_t num_switches = 0;
};

// Of all of the process's threads.
int64_t NumSwitches(pid_t pid) {
  int64_t sum = 0;
  for (const auto& task : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", pid, "/task"))) {
    std::ifstream status(task.path() / "status");
    std::string line;
    while (std::getline(status, line)) {
      const std::vector<std::string> parts = absl::StrSplit(line, '\t');
      int64_t number = 0;
      if (parts.size() == 2 &&
          parts[0].find("ctxt_switches") != std::string::npos &&
          absl::SimpleAtoi(parts[1], &number)) {
        sum += number;
      }
    }
  }
  return sum;
}

Usage UsageOf(pid_t pid) {
  Usage usage;
  clockid_t clock;
  timespec time;
  CHECK_EQ(clock_getcpuclockid(pid, &clock), 0);
  PCHECK(clock_gettime(clock, &time) == 0);
  usage.cpu_s = absl::ToDoubleSeconds(absl::DurationFromTimespec(time));
  std::ifstream stat(absl::StrCat("/proc/", pid, "/stat"));
  std::string word;
  for (int i = 1; i <= 14; ++i) stat >> word;
  int64_t ticks = 0;
  CHECK(absl::SimpleAtoi(word, &ticks));
  usage.user_s = static_cast<double>(ticks) / sysconf(_SC_CLK_TCK);
  usage.num_switches = NumSwitches(pid);
  return usage;
}

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * (values.size() - 1))];
}

// Streams at once, spread over connections.
std::vector<std::unique_ptr<Client>> StartClients(const std::string& target,
                                                  int num_streams,
                                                  Counts* counts) {
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs;
  for (int i = 0; i < absl::GetFlag(FLAGS_channels); ++i) {
    grpc::ChannelArguments args;
    args.SetInt("quire.number", i);  // channels alike share a connection
    stubs.push_back(v1::Inference::NewStub(grpc::CreateCustomChannel(
        target, grpc::InsecureChannelCredentials(), args)));
  }
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < num_streams; ++i) {
    clients.push_back(
        std::make_unique<Client>(stubs[i % stubs.size()].get(), i, counts));
  }
  return clients;
}

void Print(int num_streams, const Usage& before, const Usage& after,
           double num_tokens, double num_messages, double wall_s,
           Counts* counts) {
  const double percent_per_1k = 100 * 1000 / num_tokens;
  const double cpu_s = after.cpu_s - before.cpu_s;
  const double user_s = after.user_s - before.user_s;
  absl::MutexLock lock(&counts->mutex);
  std::printf(
      "%7d %9.0f %9.0f %8.2f%% %7.2f%% %7.2f%% %8.2f %8.2f %8.2f %8.2f\n",
      num_streams, num_tokens / wall_s, num_messages / wall_s,
      percent_per_1k * cpu_s, percent_per_1k * user_s,
      percent_per_1k * (cpu_s - user_s),
      (after.num_switches - before.num_switches) / num_tokens,
      Percentile(counts->gaps_ms, 0.5), Percentile(counts->gaps_ms, 0.99),
      Percentile(counts->first_ms, 0.5));
  std::fflush(stdout);
}

void Measure(const std::string& target, pid_t server, int num_streams) {
  Counts counts;
  const auto clients = StartClients(target, num_streams, &counts);
  while (counts.num_tokens < 4 * num_streams) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  counts.measures = true;
  const Usage before = UsageOf(server);
  const absl::Time begin = absl::Now();
  const int64_t num_tokens = counts.num_tokens;
  const int64_t num_messages = counts.num_messages;
  absl::SleepFor(absl::GetFlag(FLAGS_time));
  const Usage after = UsageOf(server);
  const double wall_s = absl::ToDoubleSeconds(absl::Now() - begin);
  counts.measures = false;
  Print(num_streams, before, after, counts.num_tokens - num_tokens,
        counts.num_messages - num_messages, wall_s, &counts);
  for (const auto& client : clients) client->Stop();
}

void Main() {
  std::FILE* from_server = nullptr;
  std::FILE* from_worker = nullptr;
  const bool is_bare = absl::GetFlag(FLAGS_bare);
  CHECK_LT(absl::GetFlag(FLAGS_time) / absl::GetFlag(FLAGS_step),
           kBenchMaxModelLen - 100)
      << "streams would end; choose a shorter --time or a longer --step";
  const pid_t server = StartSelf(is_bare ? "bare" : "coordinator",
                                 /*flag=*/"--", &from_server);
  const std::string target = ReadWord(from_server);
  const std::string control = ReadWord(from_server);
  if (!is_bare) {
    StartSelf("worker", "--control=" + control, &from_worker);
    CHECK_EQ(ReadWord(from_server), "ready");
  }
  std::printf(
      "streams     tok/s   messages cpu per 1k     user   system switches  "
      "gap p50      p99    first\n");
  for (int turn = 0; turn < absl::GetFlag(FLAGS_turns); ++turn) {
    for (const std::string& streams : absl::GetFlag(FLAGS_streams)) {
      int num_streams = 0;
      CHECK(absl::SimpleAtoi(streams, &num_streams)) << streams;
      Measure(target, server, num_streams);
      absl::SleepFor(absl::Milliseconds(300));  // the last have left
    }
  }
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = 1;
  absl::ParseCommandLine(argc, argv);
  quire::EndLockOrderChecks();
  const std::string be = absl::GetFlag(FLAGS_be);
  if (be == "worker") {
    quire::BeWorker(absl::GetFlag(FLAGS_control), absl::GetFlag(FLAGS_step));
  }
  if (be == "coordinator") quire::BeCoordinator(absl::GetFlag(FLAGS_model));
  if (be == "bare") quire::BeBareServer(absl::GetFlag(FLAGS_step));
  quire::Main();
}
