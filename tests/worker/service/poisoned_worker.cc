// SPDX-License-Identifier: Apache-2.0
//
// A worker on a GPU whose context is poisoned at SIGHUP, by an illegal access
// of another backend of the process: they share the context.
#include <signal.h>

#include <memory>
#include <thread>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_backend.h"
#include "worker/service/worker_process.h"

ABSL_FLAG(std::string, coordinator, "", "host:port");

namespace quire {
namespace {

void PoisonAtSighup() {
  const auto other = CreateCudaBackend({.dtype = DType::kBf16});
  CHECK(other.ok()) << other.status();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  sigwaitinfo(&signals, nullptr);
  auto* const nowhere = reinterpret_cast<void*>(uintptr_t{1} << 44);
  (void)(*other)->Add({nowhere, DType::kBf16, nowhere, nowhere, 1 << 20});
  while (true) sigwaitinfo(&signals, nullptr);  // gives nothing back
}

int Main() {
  BlockWorkerSignals();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread(PoisonAtSighup).detach();
  GroupEnd group_end;
  DeviceOptions device;
  device.device = "cuda";
  device.group_end = &group_end;
  WorkerProcessOptions options;
  options.link.coordinator = absl::GetFlag(FLAGS_coordinator);
  options.link.instance_id = 1;
  options.link.device = "cuda";
  const absl::StatusOr<int> exit_status = RunWorker(
      options,
      [&device](const LoadSpec& spec, const LoadObserver& observer,
                KeyBoard* board, const Clock* clock) {
        return LoadExecutor(device, spec, board, clock, observer);
      },
      &group_end);
  CHECK(exit_status.ok()) << exit_status.status();
  return *exit_status;
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  absl::ParseCommandLine(argc, argv);
  return quire::Main();
}
