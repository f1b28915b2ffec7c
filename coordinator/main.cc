// SPDX-License-Identifier: Apache-2.0
//
// quire_coordinator: serves clients, commands workers.
//
// Prints for whoever started it, on stdout:
//   QUIRE_LISTENING public=host:port control=host:port metrics=host:port
//   QUIRE_WARNING text                  if something is amiss
//   QUIRE_KV blocks=N block_size=N     when all groups are ready, or those that
//   QUIRE_READY                        have not been lost, and then
//   QUIRE_DISMISSED group=N rank=N pid=N  when a worker is to end that may hang
// Exit codes: 0 told to stop, 1 failed, 2 used wrongly.
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/flags/parse_flags.h"
#include "common/listen_host.h"
#include "common/lock_order.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/coordinator.h"
#include "coordinator/coordinator_flags.h"
#include "coordinator/lost_group.h"
#include "glog/logging.h"

namespace quire {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

// Kubernetes and people wait longer, but a foreground Ctrl-C should not.
constexpr absl::Duration kInterruptGrace = absl::Seconds(2);
constexpr absl::Duration kTerminateGrace = absl::Seconds(90);
// Clients of a lost group hear of it before the process goes.
constexpr absl::Duration kLossGrace = absl::Seconds(2);

int Fail(const absl::Status& status, int exit_code) {
  std::cerr << "quire_coordinator: " << status.message() << std::endl;
  return exit_code;
}

// Blocks SIGINT and SIGTERM in every thread and yields a descriptor to read
// them from. To be called before any thread starts.
int OpenSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  PCHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  signal(SIGPIPE, SIG_IGN);
  const int fd = signalfd(-1, &signals, SFD_CLOEXEC);
  PCHECK(fd >= 0) << "signalfd";
  return fd;
}

int ReadSignal(int fd) {
  signalfd_siginfo info;
  PCHECK(read(fd, &info, sizeof(info)) == sizeof(info)) << "signalfd";
  return static_cast<int>(info.ssi_signo);
}

// Set from any thread, waited for by the main one.
class FatalLoss {
 public:
  FatalLoss() : fd_(eventfd(0, EFD_CLOEXEC)) { PCHECK(fd_ >= 0); }
  ~FatalLoss() { close(fd_); }

  void Set(const absl::Status& cause) {
    absl::MutexLock lock(&mutex_);
    if (cause_.has_value()) return;
    cause_ = cause;
    const uint64_t one = 1;
    PCHECK(write(fd_, &one, sizeof(one)) == sizeof(one));
  }
  absl::Status cause() const {
    absl::MutexLock lock(&mutex_);
    return cause_.value_or(absl::OkStatus());
  }
  int fd() const { return fd_; }

 private:
  const int fd_;
  mutable absl::Mutex mutex_;
  std::optional<absl::Status> cause_ ABSL_GUARDED_BY(mutex_);
};

CoordinatorCallbacks MakeCallbacks(const CoordinatorOptions& options,
                                   FatalLoss* fatal_loss) {
  CoordinatorCallbacks callbacks;
  callbacks.on_ready = [block_size = options.engine.block_size,
                        reform = options.reform_lost_groups](
                           int32_t num_blocks, const std::string& missing) {
    if (!missing.empty()) {
      std::printf("QUIRE_WARNING %s; the other groups serve%s\n",
                  missing.c_str(),
                  reform ? ", and this one begins again when workers join"
                         : "; --on_group_lost=reform would take workers again");
    }
    std::printf("QUIRE_KV blocks=%d block_size=%d\nQUIRE_READY\n", num_blocks,
                block_size);
    std::fflush(stdout);
  };
  callbacks.on_lost = [reform = options.reform_lost_groups,
                       fatal_loss](const LostGroup& lost) {
    if (EndsService(lost, reform)) fatal_loss->Set(lost.cause);
  };
  callbacks.on_dismissed = [](const DismissedWorker& worker) {
    std::printf("QUIRE_DISMISSED group=%d rank=%d pid=%ju\n", worker.group,
                worker.rank, uintmax_t{worker.pid});
    std::fflush(stdout);
  };
  return callbacks;
}

// Lets requests end; a second signal ends them at once.
void DrainOnSignal(Coordinator* coordinator, Clock* clock, int signal_fd,
                   int signal_number) {
  const absl::Duration grace =
      signal_number == SIGINT ? kInterruptGrace : kTerminateGrace;
  LOG(INFO) << "stopping; requests have " << absl::FormatDuration(grace)
            << " to end, a second signal ends them at once";
  const int done_fd = eventfd(0, EFD_CLOEXEC);
  std::thread drain([&] {
    coordinator->Drain(clock->Now() + grace);
    const uint64_t one = 1;
    PCHECK(write(done_fd, &one, sizeof(one)) == sizeof(one));
  });
  std::vector<pollfd> polled = {{signal_fd, POLLIN, 0}, {done_fd, POLLIN, 0}};
  poll(polled.data(), polled.size(), /*timeout=*/-1);
  if ((polled[1].revents & POLLIN) == 0) coordinator->HurryDrain();
  drain.join();
  close(done_fd);
}

int Main(int argc, char** argv) {
  EndLockOrderChecks();
  const auto positional = ParseFlags(argc, argv);
  if (!positional.ok()) return Fail(positional.status(), kExitUsage);
  if (!positional->empty()) {
    return Fail(absl::InvalidArgumentError("unexpected argument \"" +
                                           positional->front() +
                                           "\"; flags are --name=value"),
                kExitUsage);
  }
  const auto options = OptionsFromFlags();
  if (!options.ok()) return Fail(options.status(), kExitUsage);
  if (const absl::Status host = CheckListenHost(options->host); !host.ok()) {
    return Fail(host, kExitUsage);
  }
  if (ExitWithParent()) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1) return kExitFailure;  // it was gone already
  }
  // gRPC logs every failed bind in its own words; ours has the remedy.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  const int signal_fd = OpenSignals();

  RealClock clock;
  FatalLoss fatal_loss;
  auto coordinator = Coordinator::Start(
      *options, MakeCallbacks(*options, &fatal_loss), &clock);
  if (!coordinator.ok()) {
    const bool is_usage = absl::IsOutOfRange(coordinator.status());
    return Fail(coordinator.status(), is_usage ? kExitUsage : kExitFailure);
  }
  std::printf("QUIRE_LISTENING public=%s control=%s metrics=%s\n",
              (*coordinator)->public_address().c_str(),
              (*coordinator)->control_address().c_str(),
              (*coordinator)->metrics_address().c_str());
  if (const std::string warning = (*coordinator)->warning(); !warning.empty()) {
    std::printf("QUIRE_WARNING %s\n", warning.c_str());
  }
  std::fflush(stdout);

  std::vector<pollfd> polled = {{signal_fd, POLLIN, 0},
                                {fatal_loss.fd(), POLLIN, 0}};
  while (poll(polled.data(), polled.size(), /*timeout=*/-1) < 0) {
  }
  if ((polled[1].revents & POLLIN) != 0) {
    (*coordinator)->Drain(clock.Now() + kLossGrace);
    return Fail(fatal_loss.cause(), kExitFailure);
  }
  DrainOnSignal(coordinator->get(), &clock, signal_fd, ReadSignal(signal_fd));
  return 0;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) { return quire::Main(argc, argv); }
