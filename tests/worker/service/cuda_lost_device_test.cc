// SPDX-License-Identifier: Apache-2.0
//
// A real GPU's context, poisoned under a worker at work: the worker hears of
// it, with the cause, in time for its process to end within a second.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/worker/collective/memory_board.h"
#include "worker/service/worker_core.h"

namespace quire {
namespace {

constexpr Epoch kEpoch(1);

std::string DemoModel() {
  const char* root = std::getenv("TEST_SRCDIR");
  return std::filesystem::canonical(
             absl::StrCat(root == nullptr ? "" : root,
                          "/quire/tools/demo_model/model/config.json"))
      .parent_path()
      .string();
}

absl::Status Await(
    const std::function<void(std::function<void(absl::Status)>)>& start) {
  absl::Notification done;
  absl::Status status;
  start([&](absl::Status answer) {
    status = std::move(answer);
    done.Notify();
  });
  done.WaitForNotification();
  return status;
}

// Runs a worker's steps, and an illegal access beside them: another backend of
// the process, as they share the device's context. Ends as the callback says.
void MeetAnIllegalAddressAtWork() {
  const RealClock clock;
  MemoryBoard board;
  absl::Time poisoned = absl::InfiniteFuture();
  WorkerCore core(&clock, [&poisoned](const absl::Status& cause) {
    const absl::Duration after = absl::Now() - poisoned;
    std::fprintf(stderr, "lost after %.1f ms: %s\n",
                 absl::ToDoubleMilliseconds(after),
                 std::string(cause.message()).c_str());
    std::_Exit(after < absl::Seconds(1) ? 0 : 3);
  });
  core.Join(kEpoch, kEpoch, 0, 1,
            [&](const LoadSpec& spec, const LoadObserver& observer) {
              DeviceOptions device;
              device.device = "cuda";
              return LoadExecutor(device, spec, &board, &clock, observer);
            });
  LoadSpec spec;
  spec.model_path = DemoModel();
  spec.block_size = 16;
  spec.limits.max_num_batched_tokens = 64;
  spec.limits.max_num_seqs = 4;
  spec.limits.max_model_len = 256;
  const absl::Status loaded = Await([&](auto done) {
    core.Load(
        kEpoch, kEpoch, spec, [](const char*, int64_t, int64_t) {}, done);
  });
  const absl::Status allocated =
      Await([&](auto done) { core.AllocateKv(kEpoch, kEpoch, 16, 0, done); });
  if (!loaded.ok() || !allocated.ok()) std::_Exit(4);
  StepPlan plan;
  AdmittedSlot admitted;
  admitted.slot = SlotId(0);
  admitted.tokens = {5, 6, 7};
  admitted.num_prompt_tokens = 3;
  std::vector<BlockId> blocks;
  for (int32_t i = 0; i < 16; ++i) blocks.push_back(BlockId(i));
  admitted.cache = blocks;
  plan.admitted.push_back(admitted);
  plan.chunks.push_back({SlotId(0), 3, /*sample=*/true});
  for (uint64_t step = 1; step < 100; ++step) {
    plan.identity = {kEpoch, kEpoch, StepId(step)};
    StepResult result;
    const absl::Status ran =
        Await([&](auto done) { core.Step(&plan, clock.Now(), &result, done); });
    if (step < 10 && !ran.ok()) std::_Exit(5);
    if (step == 10) {
      const auto other = CreateCudaBackend({.dtype = DType::kBf16});
      if (!other.ok()) std::_Exit(6);
      auto* const nowhere = reinterpret_cast<void*>(uintptr_t{1} << 44);
      poisoned = absl::Now();
      (void)(*other)->Add({nowhere, DType::kBf16, nowhere, nowhere, 1 << 20});
    }
    plan = StepPlan();
    plan.decodes = {SlotId(0)};
  }
  std::_Exit(7);
}

TEST(CudaLostDeviceDeathTest, AWorkerHearsOfAPoisonedContextWithItsCause) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(MeetAnIllegalAddressAtWork(), testing::ExitedWithCode(0),
              "lost after .*illegal memory access");
}

}  // namespace
}  // namespace quire
