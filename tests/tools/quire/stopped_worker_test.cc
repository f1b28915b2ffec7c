// SPDX-License-Identifier: Apache-2.0
//
// A real server one of whose workers is stopped for good: its group comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <ostream>
#include <sstream>
#include <string>

#include "common/clock.h"
#include "tests/integration/runfiles.h"
#include "tools/cli/rpc.h"
#include "tools/cli/server_queries.h"
#include "tools/cli/signals.h"
#include "tools/quire/launcher.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

// Stops the second group's worker when the server is ready, and ends the server
// once that group has been ready twice.
class WorkerStopper final : public std::stringbuf {
 protected:
  int sync() override {
    const std::string text = str();
    if (!stopped_ && text.find("Ctrl-C ends") != std::string::npos) {
      stopped_ = true;
      Stop(Address(text));
    }
    const size_t first = text.find(kReady);
    if (!ended_ && first != std::string::npos &&
        text.find(kReady, first + 1) != std::string::npos) {
      ended_ = true;
      kill(getpid(), SIGTERM);
    }
    return 0;
  }

 private:
  // The coordinator's, in its log.
  static constexpr char kReady[] = "] group 1: 400 blocks";

  static std::string Address(const std::string& text) {
    const std::string flag = "quire status --target=";
    const size_t begin = text.find(flag) + flag.size();
    return text.substr(begin, text.find(' ', begin) - begin);
  }
  static void Stop(const std::string& control_address) {
    const auto status =
        GetClusterStatus(MakeChannel(control_address), absl::Seconds(60));
    ASSERT_TRUE(status.ok()) << status.status();
    ASSERT_EQ(status->groups(1).ranks_size(), 1);
    kill(static_cast<pid_t>(status->groups(1).ranks(0).pid()), SIGSTOP);
  }

  bool stopped_ = false;
  bool ended_ = false;
};

TEST(StoppedWorkerTest, IsKilledAndAnotherTakesItsPlace) {
  LauncherOptions options;
  options.coordinator_binary = Runfile("coordinator/quire_coordinator");
  options.worker_binary = Runfile("worker/quire_worker");
  options.num_groups = 2;
  options.restarts_workers = true;
  options.coordinator_flags = {
      "--model=" + ModelFolder("tools/demo_model/model"),
      "--data_parallel_size=2",
      "--on_group_lost=reform",
      "--num_gpu_blocks_override=400",
      "--memory_utilization=1",
      "--port=0",
      "--control_port=0",
      "--metrics_port=0"};
  options.worker_flags = {"--device=cpu", "--num_threads=1", "--port=0"};
  options.log_dir = testing::TempDir();
  options.verbose = true;
  options.dismissal_grace = absl::ZeroDuration();

  WorkerStopper stopper;
  std::ostream err(&stopper);
  SignalEvents events(SignalEvents::Children::kReport);
  const RealClock clock;
  Launcher launcher(options, &events, &err, &clock);
  EXPECT_EQ(launcher.Run(), 0) << stopper.str();
  EXPECT_THAT(stopper.str(), HasSubstr("sent no heartbeat for 3s"));
  EXPECT_THAT(stopper.str(), HasSubstr("the worker 1 was killed by signal 9"));
}

}  // namespace
}  // namespace quire
