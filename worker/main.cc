// SPDX-License-Identifier: Apache-2.0
//
// One tensor-parallel rank: joins a coordinator and obeys it until told to go.
// Exit status: 0 after SIGTERM or SIGINT, 1 when the coordinator or the group
// is lost or something failed, 2 for a wrong command line.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/flags/parse_flags.h"
#include "common/lock_order.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "worker/collective/group_end.h"
#include "worker/collective/nccl.h"
#include "worker/executor/load_executor.h"
#include "worker/service/cluster_link.h"
#include "worker/service/worker_core.h"
#include "worker/service/worker_server.h"
#include "worker/service/worker_service.h"

ABSL_FLAG(std::string, coordinator, "127.0.0.1:9000",
          "The coordinator's control port, host:port.");
ABSL_FLAG(std::string, host, "127.0.0.1",
          "Address of this machine that the coordinator and the other ranks "
          "reach; also the one listened on.");
ABSL_FLAG(int32_t, port, 0, "gRPC port to listen on; 0 takes a free one.");
ABSL_FLAG(int32_t, group, -1,
          "The replica group wanted; -1: the first that has room.");
ABSL_FLAG(int32_t, rank, -1, "The rank wanted; -1: any that is free.");
ABSL_FLAG(
    std::string, device, "cpu",
    "What computes: cpu, cuda (of the machine's GPUs the one that is this "
    "rank's), or cuda:N.");
ABSL_FLAG(bool, deterministic, false,
          "On cuda: a token never depends on its batch, as on cpu; slower.");
ABSL_FLAG(std::string, gemm_cache, "",
          "On cuda: a file to keep the fastest matrix products in.");
ABSL_FLAG(
    bool, enforce_eager, false,
    "On cuda: launch decodes kernel by kernel instead of as CUDA graphs.");
ABSL_FLAG(bool, device_sampling, true,
          "On cuda: choose tokens of requests with penalties, filters or log "
          "probabilities on the GPU, and run ahead of them; groups with "
          "--record_groups.");
ABSL_FLAG(bool, measure_idleness, false,
          "On cuda: log how long the GPU had nothing to do between steps.");
ABSL_FLAG(
    bool, record_groups, true,
    "On cuda: groups launch decodes as CUDA graphs and choose tokens on their "
    "GPUs, as one rank alone does; without it their hosts choose, step by "
    "step.");
ABSL_FLAG(
    int32_t, num_threads, 0,
    "Threads that compute; 0 shares the machine's cores among its ranks.");
ABSL_FLAG(
    std::string, collective, "auto",
    "How ranks talk to each other: gloo (TCP), shm (shared memory of one "
    "machine), nccl (between GPUs), peer (between GPUs that reach each "
    "other's memory), or auto: on cuda peer where it is possible, with nccl "
    "beside it; else shm where it is possible.");
ABSL_FLAG(absl::Duration, join_timeout, absl::Seconds(60),
          "For the coordinator to answer, and for the other ranks to join.");
ABSL_FLAG(absl::Duration, collective_timeout, absl::Seconds(60),
          "For a rank that lives but takes no part in an operation.");
ABSL_FLAG(bool, exit_with_parent, false,
          "End when the process that started this one ends.");

namespace quire {
namespace {

constexpr char kVersion[] = "0.1.0";

// What may be lost.
constexpr char kDevice[] = "device";
constexpr char kCoordinator[] = "coordinator";

// Between being told to go and going, whatever a running step says.
constexpr absl::Duration kStopTimeout = absl::Seconds(1);

// Wakes the main thread, which waits for signals.
constexpr int kLostSignal = SIGUSR1;
// Ends the thread that waits for signals while joining.
constexpr int kJoinedSignal = SIGUSR2;

sigset_t HandledSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, kLostSignal);
  sigaddset(&signals, kJoinedSignal);
  return signals;
}

// What is lost and why, from another thread to the main one.
class LostCause {
 public:
  // The first call counts. `what` lives for ever.
  void Set(const char* what, const absl::Status& cause) {
    {
      absl::MutexLock lock(&mutex_);
      if (text_.empty()) {
        what_ = what;
        text_ = absl::StrCat("lost the ", what, ": ", cause.message());
      }
    }
    kill(getpid(), kLostSignal);
  }
  bool IsOf(absl::string_view what) const {
    absl::MutexLock lock(&mutex_);
    return what_ == what;
  }
  // Empty if nothing is lost.
  std::string text() const {
    absl::MutexLock lock(&mutex_);
    return text_;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::string_view what_ ABSL_GUARDED_BY(mutex_);
  std::string text_ ABSL_GUARDED_BY(mutex_);
};

// While it lives, SIGTERM and SIGINT end the process at once: joining blocks,
// and there is nothing yet to end in order.
class EndWhileJoining {
 public:
  EndWhileJoining() : thread_([this] { Wait(); }) {}
  ~EndWhileJoining() {
    pthread_kill(thread_.native_handle(), kJoinedSignal);
    thread_.join();
    if (is_lost_) kill(getpid(), kLostSignal);  // for the main thread
  }

 private:
  void Wait() {
    const sigset_t signals = HandledSignals();
    while (true) {
      const int signal = sigwaitinfo(&signals, nullptr);
      if (signal == SIGTERM || signal == SIGINT) _exit(0);
      if (signal == kLostSignal) is_lost_ = true;
      if (signal == kJoinedSignal) return;
    }
  }

  bool is_lost_ = false;  // the thread's own
  std::thread thread_;
};

DeviceOptions DeviceFromFlags() {
  DeviceOptions device;
  device.device = absl::GetFlag(FLAGS_device);
  device.num_threads = absl::GetFlag(FLAGS_num_threads);
  device.deterministic = absl::GetFlag(FLAGS_deterministic);
  device.gemm_cache = absl::GetFlag(FLAGS_gemm_cache);
  device.enforce_eager = absl::GetFlag(FLAGS_enforce_eager);
  device.device_sampling = absl::GetFlag(FLAGS_device_sampling);
  device.measures_idleness = absl::GetFlag(FLAGS_measure_idleness);
  device.record_groups = absl::GetFlag(FLAGS_record_groups);
  device.collective = absl::GetFlag(FLAGS_collective);
  device.host = absl::GetFlag(FLAGS_host);
  device.connect_timeout = absl::GetFlag(FLAGS_join_timeout);
  device.operation_timeout = absl::GetFlag(FLAGS_collective_timeout);
  return device;
}

ClusterLinkOptions LinkFromFlags(int32_t port) {
  ClusterLinkOptions options;
  options.coordinator = absl::GetFlag(FLAGS_coordinator);
  options.address = absl::StrCat(absl::GetFlag(FLAGS_host), ":", port);
  std::random_device random;
  options.instance_id = uint64_t{random()} << 32 | random();
  options.device = DeviceKind(DeviceFromFlags());
  if (const int32_t group = absl::GetFlag(FLAGS_group); group >= 0) {
    options.group = group;
  }
  if (const int32_t rank = absl::GetFlag(FLAGS_rank); rank >= 0) {
    options.rank = rank;
  }
  options.version = kVersion;
  options.join_timeout = absl::GetFlag(FLAGS_join_timeout);
  return options;
}

// REQUIRES: the handled signals are blocked. Returns the exit status.
int WaitForEnd(const LostCause& lost) {
  const sigset_t signals = HandledSignals();
  while (true) {
    const int signal = sigwaitinfo(&signals, nullptr);
    if (signal == SIGTERM || signal == SIGINT) {
      LOG(INFO) << "told to go by " << strsignal(signal);
      return 0;
    }
    if (signal == kLostSignal && !lost.text().empty()) {
      LOG(ERROR) << lost.text();
      return 1;
    }
  }
}

[[noreturn]] void ExitNow(int exit_status) {
  google::FlushLogFiles(google::INFO);
  _exit(exit_status);
}

// Runs until told to go or alone. A status is why it could not even begin.
absl::StatusOr<int> Run() {
  DeviceOptions device = DeviceFromFlags();
  const RealClock clock;
  GroupEnd group_end;
  device.group_end = &group_end;
  LostCause lost;
  WorkerCore core(
      &clock, [&lost](const absl::Status& cause) { lost.Set(kDevice, cause); });
  std::unique_ptr<WorkerServer> server;
  const std::unique_ptr<grpc::Service> service =
      MakeWorkerService(&core, [&server] { server->SetReady(); });
  QUIRE_ASSIGN_OR_RETURN(
      server, WorkerServer::Start(device.host, absl::GetFlag(FLAGS_port),
                                  service.get()));
  absl::StatusOr<std::unique_ptr<ClusterLink>> joined =
      absl::UnavailableError("not yet");
  {
    EndWhileJoining end_while_joining;
    joined = ClusterLink::Join(
        LinkFromFlags(server->port()), [&core] { return core.last_step(); },
        [&lost](const absl::Status& cause) { lost.Set(kCoordinator, cause); });
  }
  QUIRE_ASSIGN_OR_RETURN(const std::unique_ptr<ClusterLink> link,
                         std::move(joined));
  const Membership& member = link->membership();
  LOG(INFO) << "rank " << member.rank << " of " << member.world_size
            << " of group " << member.group << " on " << device.host << ":"
            << server->port() << ", device " << device.device;
  core.Join(member.coordinator_epoch, member.group_epoch, member.rank,
            member.world_size,
            [&](const LoadSpec& spec, const LoadObserver& observer) {
              return LoadExecutor(device, spec, link->board(), &clock,
                                  observer);
            });
  const int exit_status = WaitForEnd(lost);
  // Nobody is left to hear anything, and the system takes back the memory of
  // GPUs a second sooner than an orderly end does.
  if (lost.IsOf(kCoordinator)) ExitNow(exit_status);
  // What waits on a device for a peer that is gone would wait for ever.
  group_end.Announce(exit_status == 0
                         ? absl::CancelledError("this rank was told to go")
                         : absl::UnavailableError(lost.text()));
  if (!core.Stop(kStopTimeout)) {
    // The executor is inside a long step, or waits for a peer that is gone.
    LOG(WARNING) << "leaving a running step behind";
    ExitNow(exit_status);
  }
  server->Shutdown(absl::ZeroDuration());
  return exit_status;
}

int Main(int argc, char** argv) {
  EndLockOrderChecks();
  const pid_t parent = getppid();
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  const auto rest = ParseFlags(argc, argv);
  absl::Status usage = rest.status();
  if (usage.ok() && !rest->empty()) {
    usage = absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", rest->front(), "\""));
  }
  if (usage.ok()) usage = CheckDeviceOptions(DeviceFromFlags());
  if (!usage.ok()) {
    std::fprintf(stderr, "quire_worker: %s\n",
                 std::string(usage.message()).c_str());
    return 2;
  }
  if (absl::GetFlag(FLAGS_exit_with_parent)) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) return 0;  // it ended before that took effect
  }
  if (DeviceKind(DeviceFromFlags()) == "cuda") {
    PrepareNcclEnvironment(absl::GetFlag(FLAGS_host));
  }
  // Before any thread starts, so that all inherit it.
  const sigset_t signals = HandledSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const absl::StatusOr<int> exit_status = Run();
  if (!exit_status.ok()) {
    std::fprintf(stderr, "quire_worker: %s\n",
                 std::string(exit_status.status().message()).c_str());
    return 1;
  }
  return *exit_status;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) { return quire::Main(argc, argv); }
