// SPDX-License-Identifier: Apache-2.0
//
// The end of a process whose device is lost: it comes although the driver never
// returns, and both logs and the client say why.
#include "worker/service/worker_process.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/service/worker_process_world.h"

namespace quire {
namespace {

constexpr char kCause[] = "norm: an illegal memory access";
constexpr char kLost[] = "lost the device: norm: an illegal memory access";

class WorkerProcessTest : public WorkerProcessWorld {
 protected:
  void StartOneThatBreaksAt(int pass) {
    Start({Program("tests/worker/service/breaking_worker"),
           absl::StrCat("--breaks_at=", pass)});
  }
};

TEST_F(WorkerProcessTest, ADeviceLostInAStepEndsTheProcessWithItsCause) {
  ASSERT_NO_FATAL_FAILURE(StartOneThatBreaksAt(30));
  ASSERT_NO_FATAL_FAILURE(AwaitReady());
  ExpectAStreamToEndWith(kCause, [](int64_t) {});
  ExpectTheEnd(kLost, kCause);
}

TEST_F(WorkerProcessTest, ADeviceLostWhileItIsMeasuredEndsTheProcess) {
  ASSERT_NO_FATAL_FAILURE(StartOneThatBreaksAt(1));
  ExpectTheEnd(kLost, kCause);
}

TEST_F(WorkerProcessTest, ADeviceLostWhileLoadingEndsTheProcess) {
  ASSERT_NO_FATAL_FAILURE(StartOneThatBreaksAt(0));
  // The coordinator hears what failed.
  ExpectTheEnd(kLost, "weights: not there");
}

}  // namespace
}  // namespace quire
