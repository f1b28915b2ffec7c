// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/failure_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <sstream>
#include <vector>

#include "tools/quire/last_words.h"

namespace quire {
namespace {

constexpr char kRefuses[] = "echo 'quire_worker: no GPU; --device' >&2; exit 1";
constexpr char kFollows[] = "echo 'lost the coordinator: gone' >&2; exit 1";

class FailureReportTest : public testing::Test {
 protected:
  // Runs `script` by a shell to its end.
  void Ran(const std::string& name, const std::string& script) {
    Start(name, script);
    ChildProcess* const child = children_.back().get();
    while (child->stderr_fd() >= 0) {
      pollfd fds[] = {{child->stderr_fd(), POLLIN, 0}};
      poll(fds, 1, /*timeout=*/-1);
      child->ReadOutput();
    }
    while (!child->Reap()) {
    }
  }
  void Start(const std::string& name, const std::string& script) {
    ChildProcess::Options options;
    options.name = name;
    options.argv = {"/bin/sh", "-c", script};
    options.log_path = testing::TempDir() + "/" + name + ".log";
    auto child = ChildProcess::Start(std::move(options));
    ASSERT_TRUE(child.ok()) << child.status();
    children_.push_back(*std::move(child));
  }
  int Report(bool was_ready) {
    return ReportFailure(children_, was_ready, &err_);
  }
  std::string Log(const std::string& name) const {
    return testing::TempDir() + "/" + name + ".log";
  }

  std::vector<std::unique_ptr<ChildProcess>> children_;
  std::ostringstream err_;
};

TEST_F(FailureReportTest, AReasonOfSeveralIsSaidOnce) {
  Start("coordinator", "exec tail -f /dev/null");
  Ran("worker 0", kRefuses);
  Ran("worker 1", kRefuses);
  EXPECT_EQ(Report(/*was_ready=*/false), 1);
  EXPECT_EQ(err_.str(), "quire serve: worker 0: no GPU; --device (log: " +
                            Log("worker 0") + ")\n");
}

TEST_F(FailureReportTest, TheCoordinatorSpeaksForTheServerAndThoseThatFollow) {
  Ran("coordinator", "echo 'quire_coordinator: no config.json' >&2; exit 1");
  Ran("worker 0", kFollows);
  EXPECT_EQ(Report(/*was_ready=*/true), 1);
  EXPECT_EQ(err_.str(),
            "quire serve: no config.json (log: " + Log("coordinator") + ")\n");
}

TEST_F(FailureReportTest, WhoFollowsACoordinatorThatRunsHasFailed) {
  Start("coordinator", "exec tail -f /dev/null");
  Ran("worker 0", kFollows);
  EXPECT_TRUE(FollowsCoordinator(*children_[1]));
  EXPECT_FALSE(FollowsCoordinator(*children_[0]));
  EXPECT_EQ(Report(/*was_ready=*/true), 1);
  EXPECT_THAT(err_.str(), testing::HasSubstr("the worker 0 exited with"));
}

TEST_F(FailureReportTest, WithoutAReasonTheLastTenLinesAreQuoted) {
  Ran("coordinator", "for i in 01 02 03 04 05 06 07 08 09 10 11; do "
                     "echo line $i >&2; done; exit 3");
  EXPECT_EQ(Report(/*was_ready=*/false), 1);
  EXPECT_THAT(err_.str(), testing::StartsWith("coordinator| line 02\n"));
  EXPECT_THAT(err_.str(), testing::EndsWith(
                              "coordinator| line 11\nquire serve: the "
                              "coordinator exited with status 3 before the "
                              "server was ready; its log is " +
                              Log("coordinator") + "\n"));
}

TEST_F(FailureReportTest, RefusedFlagsAreWrongUsageUntilTheServerIsReady) {
  Start("coordinator", "exec tail -f /dev/null");
  Ran("worker 0", "echo 'quire_worker: unknown flag --fake' >&2; exit 2");
  EXPECT_EQ(Report(/*was_ready=*/false), kUsageExit);
  EXPECT_EQ(Report(/*was_ready=*/true), 1);
}

}  // namespace
}  // namespace quire
