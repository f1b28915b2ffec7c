// SPDX-License-Identifier: Apache-2.0
//
// A worker on a GPU whose context is poisoned at SIGHUP, by an illegal access
// of another backend of the process: they share the context.
#include <signal.h>

#include <thread>

#include "glog/logging.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/worker/service/doomed_worker.h"

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
  options.link.device = "cuda";
  return RunDoomedWorker(
      options,
      [&device](const LoadSpec& spec, const LoadObserver& observer,
                KeyBoard* board, const Clock* clock) {
        return LoadExecutor(device, spec, board, clock, observer);
      },
      &group_end);
}

}  // namespace
}  // namespace quire

int main(int argc, char** argv) {
  quire::BeginDoomedWorker(argc, argv);
  return quire::Main();
}
