// SPDX-License-Identifier: Apache-2.0
//
// The worker binary's command line: one clear line per error, and exit codes.
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// A socket that listens on a free port of loopback.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size),
              0);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { close(fd_); }
  int port() const { return port_; }
  // Waits until somebody has connected.
  void Await() { close(accept(fd_, nullptr, nullptr)); }

 private:
  const int fd_;
  int port_ = 0;
};

// A worker whose stderr is read until it ends.
class WorkerProcess {
 public:
  explicit WorkerProcess(std::vector<std::string> flags) {
    int out[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out[1], STDERR_FILENO);
      const std::string binary =
          absl::StrCat(std::getenv("TEST_SRCDIR"), "/",
                       std::getenv("TEST_WORKSPACE"), "/worker/quire_worker");
      std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
      for (std::string& flag : flags) argv.push_back(flag.data());
      argv.push_back(nullptr);
      execv(binary.c_str(), argv.data());
      _exit(99);
    }
    close(out[1]);
    stderr_ = out[0];
  }
  void Kill(int signal) { kill(pid_, signal); }
  // The exit status, and what was said.
  int Wait(std::string* said) {
    char buffer[4096];
    for (ssize_t n; (n = read(stderr_, buffer, sizeof(buffer))) > 0;) {
      said->append(buffer, n);
    }
    close(stderr_);
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = 0;
  int stderr_ = -1;
};

int RunWorker(const std::vector<std::string>& flags, std::string* said) {
  return WorkerProcess(flags).Wait(said);
}

TEST(WorkerMainTest, AWrongCommandLineIsOneLineAndStatusTwo) {
  const struct {
    std::vector<std::string> flags;
    const char* says;
  } cases[] = {
      {{"--colective=gloo"}, "collective"},  // the nearest name
      {{"--device=tpu"}, "--device=tpu"},
      {{"--collective=mpi"}, "one of auto, gloo, nccl, peer, shm"},
      {{"--collective=nccl"}, "needs --device=cuda"},
      {{"--num_threads=-3"}, "--num_threads=-3"},
      {{"--port=70000"}, "--port=70000: it may be 0 to 65535"},
      {{"--rank=-2"}, "--rank=-2: it may be -1 for any, or 0 or more"},
      {{"--group=-2"}, "--group=-2: it may be -1 for any, or 0 or more"},
      {{"--join_timeout=-1s"}, "--join_timeout=-1s: it may be above 0"},
      {{"--collective_timeout=0"}, "--collective_timeout=0: it may be above 0"},
      {{"--coordinator=here"}, "--coordinator=here: it may be host:port"},
      {{"--host=192.0.2.1"}, "--host=192.0.2.1: Cannot assign"},
      {{"surplus"}, "unexpected argument \"surplus\""},
  };
  for (const auto& c : cases) {
    std::string said;
    EXPECT_EQ(RunWorker(c.flags, &said), 2) << said;
    EXPECT_NE(said.find(c.says), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), said.size() - 1) << said;
  }
}

TEST(WorkerMainTest, ATakenPortIsOneLineAndStatusOne) {
  Listener taken;
  std::string said;
  EXPECT_EQ(RunWorker({absl::StrCat("--port=", taken.port())}, &said), 1);
  EXPECT_NE(
      said.find(absl::StrCat("cannot listen on 127.0.0.1:", taken.port())),
      std::string::npos)
      << said;
}

TEST(WorkerMainTest, ACoordinatorThatNeverAnswersIsOneLineAndStatusOne) {
  Listener silent;
  std::string said;
  EXPECT_EQ(RunWorker({absl::StrCat("--coordinator=127.0.0.1:", silent.port()),
                       "--join_timeout=200ms"},
                      &said),
            1);
  EXPECT_NE(said.find("no coordinator answered"), std::string::npos) << said;
}

TEST(WorkerMainTest, SigtermWhileJoiningIsStatusZero) {
  Listener silent;
  WorkerProcess worker({absl::StrCat("--coordinator=127.0.0.1:", silent.port()),
                        "--join_timeout=1h"});
  silent.Await();
  worker.Kill(SIGTERM);
  std::string said;
  EXPECT_EQ(worker.Wait(&said), 0) << said;
}

}  // namespace
}  // namespace quire
