// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ChildProcessTest : public testing::Test {
 protected:
  // Runs `script` by a shell.
  absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::string& script, int64_t max_log_bytes = 1 << 20) {
    ChildProcess::Options options;
    options.max_log_bytes = max_log_bytes;
    options.name = "shell";
    options.argv = {"/bin/sh", "-c", script};
    options.log_path = log_path_;
    options.on_stdout_line = [this](const std::string& line) {
      lines_.push_back(line);
    };
    return ChildProcess::Start(std::move(options));
  }
  // Reads until both pipes have ended and the child is gone.
  static void Wait(ChildProcess* child) {
    while (child->stdout_fd() >= 0 || child->stderr_fd() >= 0) {
      // A closed descriptor is -1, which poll skips.
      pollfd fds[] = {{child->stdout_fd(), POLLIN, 0},
                      {child->stderr_fd(), POLLIN, 0}};
      poll(fds, 2, /*timeout=*/-1);
      child->ReadOutput();
    }
    while (!child->Reap()) {
    }
  }

  const std::string log_path_ = testing::TempDir() + "/child.log";
  std::vector<std::string> lines_;
};

TEST_F(ChildProcessTest, ReportsLinesAndStatus) {
  auto child = Start("echo one; echo two >&2; printf three; exit 7");
  ASSERT_TRUE(child.ok()) << child.status();
  Wait(child->get());
  EXPECT_THAT(lines_, ElementsAre("one", "three"));
  EXPECT_THAT((*child)->stderr_tail(), ElementsAre("two"));
  EXPECT_EQ((*child)->exit_code(), 7);
  EXPECT_EQ((*child)->DescribeExit(), "exited with status 7");
}

TEST_F(ChildProcessTest, KeepsEverythingInTheLog) {
  unlink(log_path_.c_str());
  auto child = Start("echo out; echo err >&2");
  ASSERT_TRUE(child.ok()) << child.status();
  Wait(child->get());
  std::stringstream log;
  log << std::ifstream(log_path_).rdbuf();
  EXPECT_THAT(log.str(), HasSubstr("out\n"));
  EXPECT_THAT(log.str(), HasSubstr("err\n"));
}

TEST_F(ChildProcessTest, TheLogIsBoundedOverAllStarts) {
  unlink(log_path_.c_str());
  for (int start = 0; start < 4; ++start) {
    auto child = Start("echo one; echo two; echo three", /*max_log_bytes=*/14);
    ASSERT_TRUE(child.ok()) << child.status();
    Wait(child->get());
  }
  for (const std::string& path : {log_path_, log_path_ + ".1"}) {
    // However the lines came: a start's worth beyond the limit.
    EXPECT_LE(std::filesystem::file_size(path), 28u) << path;
  }
}

TEST_F(ChildProcessTest, RemembersOnlyTheLastLines) {
  auto child = Start(
      "i=0; while [ $i -lt 50 ]; do echo $i >&2; i=$((i+1)); "
      "done");
  ASSERT_TRUE(child.ok()) << child.status();
  Wait(child->get());
  EXPECT_EQ((*child)->stderr_tail().size(), 20);
  EXPECT_EQ((*child)->stderr_tail().back(), "49");
}

TEST_F(ChildProcessTest, DiesBySignalsWithItsWholeGroup) {
  // The inner shell inherits the pipes: they end only when it has ended too.
  auto child = Start(
      "sh -c 'echo up; while :; do read x; done' </dev/zero & "
      "wait");
  ASSERT_TRUE(child.ok()) << child.status();
  while (lines_.empty()) (*child)->ReadOutput();
  (*child)->Signal(SIGKILL);
  Wait(child->get());
  EXPECT_EQ((*child)->exit_code(), 128 + SIGKILL);
  EXPECT_EQ((*child)->DescribeExit(), "was killed by signal 9 (Killed)");
}

TEST_F(ChildProcessTest, HasAProcessGroupOfItsOwn) {
  auto child = Start("read never_comes < /proc/self/fd/1");
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(getpgid((*child)->pid()), (*child)->pid());
  EXPECT_NE((*child)->pid(), getpgrp());
}

TEST_F(ChildProcessTest, IsGoneWithItsOwner) {
  pid_t pid;
  {
    auto child = Start("while :; do read x; done </dev/zero");
    ASSERT_TRUE(child.ok()) << child.status();
    pid = (*child)->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(ChildProcessTest, AMissingProgramIsNotFound) {
  ChildProcess::Options options;
  options.name = "worker 0";
  options.argv = {"/nowhere/quire_worker"};
  options.log_path = log_path_;
  const auto child = ChildProcess::Start(std::move(options));
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(child.status().message()),
              HasSubstr("cannot start the worker 0: /nowhere/quire_worker: "
                        "No such file or directory"));
}

}  // namespace
}  // namespace quire
