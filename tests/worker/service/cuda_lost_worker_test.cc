// SPDX-License-Identifier: Apache-2.0
//
// A real GPU's context, poisoned under a worker that serves: its process is
// gone within a second, and the client hears the cause.
#include <signal.h>

#include <cstdio>
#include <filesystem>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/service/worker_process_world.h"

namespace quire {
namespace {

constexpr char kWorker[] = "tests/worker/service/poisoned_worker";

class CudaLostWorkerTest : public WorkerProcessWorld {
 protected:
  static bool HasPrograms() {
    return std::filesystem::exists(Program(kWorker)) &&
           std::filesystem::exists(Program(kCoordinator));
  }
};

TEST_F(CudaLostWorkerTest, APoisonedContextEndsTheProcessWithinASecond) {
  if (!HasPrograms()) GTEST_SKIP() << "the bundle lacks its programs";
  ASSERT_NO_FATAL_FAILURE(Start({Program(kWorker)}));
  ASSERT_NO_FATAL_FAILURE(AwaitReady());
  absl::Time poisoned = absl::InfiniteFuture();
  ExpectAStreamToEndWith("illegal memory access", [&](int64_t num_tokens) {
    if (num_tokens < 20 || poisoned != absl::InfiniteFuture()) return;
    poisoned = absl::Now();
    worker_->Signal(SIGHUP);
  });
  ASSERT_TRUE(worker_->Wait(kPatience).ok());
  const absl::Duration after = absl::Now() - poisoned;
  std::printf("the process ended %.0f ms after its device\n",
              absl::ToDoubleMilliseconds(after));
  // What a GPU worker promises; no CPU test says a time.
  EXPECT_LT(after, absl::Seconds(1));
  ExpectTheEnd("lost the device:", "illegal memory access");
}

}  // namespace
}  // namespace quire
