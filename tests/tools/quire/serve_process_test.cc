// SPDX-License-Identifier: Apache-2.0
//
// The launcher as a process: what is left of it when it is killed, and what it
// answers to wrong usage.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace quire {
namespace {

using ::testing::HasSubstr;

std::string Runfile(const std::string& path) {
  return std::string(getenv("TEST_SRCDIR")) + "/" + getenv("TEST_WORKSPACE") +
         "/" + path;
}

class QuireProcess {
 public:
  explicit QuireProcess(std::vector<std::string> args) {
    args.insert(args.begin(), Runfile("tools/quire/quire"));
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) abort();
    pid_ = fork();
    if (pid_ == 0) {
      dup2(fds[1], STDOUT_FILENO);
      dup2(fds[1], STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(fds[1]);
    output_fd_ = fds[0];
  }
  ~QuireProcess() { close(output_fd_); }

  // Reads output until it holds `text` or ends. Everything read so far.
  const std::string& ReadUntil(const std::string& text) {
    char buffer[4096];
    while (output_.find(text) == std::string::npos) {
      const ssize_t num_bytes = read(output_fd_, buffer, sizeof(buffer));
      if (num_bytes <= 0) break;
      output_.append(buffer, num_bytes);
    }
    return output_;
  }
  const std::string& ReadAll() { return ReadUntil("\1"); }

  // The status that waitpid reports.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    return status;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
  int output_fd_;
  std::string output_;
};

std::vector<std::string> ServeArgs() {
  return {
      "serve",
      "--verbose",
      "--model=" + testing::TempDir(),
      "--tensor_parallel_size=2",
      "--coordinator_binary=" + Runfile("tests/tools/fakes/fake_coordinator"),
      "--worker_binary=" + Runfile("tests/tools/fakes/fake_worker"),
      "--log_dir=" + testing::TempDir()};
}

// The workers are there, too, not only forked: the coordinator may be ready
// before them.
void ReadUntilAllServe(QuireProcess* quire) {
  for (const char* text :
       {"Ctrl-C ends", "worker 0| flags", "worker 1| flags"}) {
    ASSERT_THAT(quire->ReadUntil(text), HasSubstr(text));
  }
}

TEST(ServeProcessTest, NobodySurvivesALauncherThatIsKilled) {
  // Orphans come to this process, so that it sees each of them end.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  QuireProcess quire(ServeArgs());
  ASSERT_NO_FATAL_FAILURE(ReadUntilAllServe(&quire));
  kill(quire.pid(), SIGKILL);
  EXPECT_TRUE(WIFSIGNALED(quire.Wait()));
  int num_children = 0;
  int status = 0;
  while (waitpid(-1, &status, 0) > 0) {
    ++num_children;
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGKILL);
  }
  EXPECT_EQ(num_children, 3);  // a coordinator and two workers
}

TEST(ServeProcessTest, SigtermEndsEverythingWithStatusZero) {
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  QuireProcess quire(ServeArgs());
  ASSERT_NO_FATAL_FAILURE(ReadUntilAllServe(&quire));
  kill(quire.pid(), SIGTERM);
  const int status = quire.Wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(waitpid(-1, nullptr, 0), -1);  // no orphan
}

struct UsageCase {
  std::vector<std::string> args;
  int exit_status;
  std::string says;
};

TEST(UsageTest, WrongUsageIsOneLineWithTheRemedy) {
  const std::vector<UsageCase> cases = {
      {{"genrate"}, 2, "unknown command genrate; did you mean generate?\n"},
      {{"generate"}, 2, "no prompt; try: quire generate"},
      {{"generate", "two", "prompts"}, 2, "put the prompt in quotes\n"},
      {{"generate", "x", "--temprature=1"},
       2,
       "unknown flag --temprature; did you mean --temperature?\n"},
      {{"generate", "x", "--max_tokens=-1"}, 2, "--max_tokens=-1 is outside"},
      {{"status", "--jsn"}, 2, "did you mean --json?\n"},
      {{"serve", "positional"}, 2, "unexpected argument positional\n"},
      {{"serve", "--tensor_parallel_size=0"},
       2,
       "--tensor_parallel_size=0 is outside 1..64\n"},
      {{"serve", "--tensor_parallel_size=5"},
       2,
       "--tensor_parallel_size=5 does not divide the query heads"},
      {{"serve", "--scheduling_policy=lifo"}, 2, "known: paged_fcfs, orca"},
      {{"serve", "--host=192.0.2.1"},
       2,
       "--host=192.0.2.1: Cannot assign requested address; give an address"},
      {{"serve", "--device=tpu"}, 2, "--device=tpu is neither cpu nor cuda\n"},
      {{"--help"}, 0, "usage: quire COMMAND"},
      {{"generate", "--help"}, 0, "--temperature"},
  };
  for (const UsageCase& usage : cases) {
    QuireProcess quire(usage.args);
    EXPECT_THAT(quire.ReadAll(), HasSubstr(usage.says));
    EXPECT_EQ(WEXITSTATUS(quire.Wait()), usage.exit_status) << usage.says;
  }
}

}  // namespace
}  // namespace quire
