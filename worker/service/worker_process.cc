// SPDX-License-Identifier: Apache-2.0
#include "worker/service/worker_process.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "worker/service/worker_core.h"
#include "worker/service/worker_server.h"
#include "worker/service/worker_service.h"

namespace quire {
namespace {

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

// Ends the process once the calls have told the coordinator why, or after
// `timeout`: what a driver does without its device has no limit.
[[noreturn]] void ExitWithLastWords(WorkerCore* core, WorkerServer* server,
                                    absl::Duration timeout, int exit_status) {
  absl::Notification told;
  std::thread teller([=, &told] {
    core->Stop(timeout);  // after which the calls have their answers
    server->Shutdown(timeout);
    told.Notify();
  });
  told.WaitForNotificationWithTimeout(timeout);
  ExitNow(exit_status);
}

}  // namespace

void BlockWorkerSignals() {
  const sigset_t signals = HandledSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

absl::StatusOr<int> RunWorker(const WorkerProcessOptions& options,
                              const ProcessLoader& loader,
                              GroupEnd* group_end) {
  const RealClock clock;
  LostCause lost;
  WorkerCore core(
      &clock, [&lost](const absl::Status& cause) { lost.Set(kDevice, cause); });
  std::unique_ptr<grpc::Service> service;  // calls use it until the server goes
  std::unique_ptr<WorkerServer> server;
  service = MakeWorkerService(&core, [&server] { server->SetReady(); });
  QUIRE_ASSIGN_OR_RETURN(
      server, WorkerServer::Start(options.host, options.port, service.get()));
  ClusterLinkOptions link_options = options.link;
  link_options.address = absl::StrCat(options.host, ":", server->port());
  absl::StatusOr<std::unique_ptr<ClusterLink>> joined =
      absl::UnavailableError("not yet");
  {
    EndWhileJoining end_while_joining;
    joined = ClusterLink::Join(
        link_options, [&core] { return core.last_step(); },
        [&lost](const absl::Status& cause) { lost.Set(kCoordinator, cause); });
  }
  if (!joined.ok()) {
    core.Refuse();  // a command that came meanwhile, whose call is to end
    return joined.status();
  }
  const std::unique_ptr<ClusterLink> link = *std::move(joined);
  const Membership& member = link->membership();
  LOG(INFO) << "rank " << member.rank << " of " << member.world_size
            << " of group " << member.group << " on " << link_options.address
            << ", device " << link_options.device;
  core.Join(member.coordinator_epoch, member.group_epoch, member.rank,
            member.world_size,
            [&](const LoadSpec& spec, const LoadObserver& observer) {
              return loader(spec, observer, link->board(), &clock);
            });
  const int exit_status = WaitForEnd(lost);
  // Nobody is left to hear anything, and the system takes back the memory of
  // GPUs a second sooner than an orderly end does.
  if (lost.IsOf(kCoordinator)) ExitNow(exit_status);
  // What waits on a device for a peer that is gone would wait for ever.
  group_end->Announce(exit_status == 0
                          ? absl::CancelledError("this rank was told to go")
                          : absl::UnavailableError(lost.text()));
  if (lost.IsOf(kDevice)) {
    ExitWithLastWords(&core, server.get(), options.last_words_timeout,
                      exit_status);
  }
  if (!core.Stop(kStopTimeout)) {
    // The executor is inside a long step, or waits for a peer that is gone.
    LOG(WARNING) << "leaving a running step behind";
    ExitNow(exit_status);
  }
  server->Shutdown(absl::ZeroDuration());
  return exit_status;
}

}  // namespace quire
