// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/launcher.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "proto/cluster.grpc.pb.h"
#include "tools/cli/rpc.h"

namespace quire {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

std::string Runfile(const std::string& path) {
  return std::string(getenv("TEST_SRCDIR")) + "/" + getenv("TEST_WORKSPACE") +
         "/" + path;
}

// Keeps what is written and sends this process a signal, as a user would, when
// the server is ready and so many workers have repeated their flags: the
// coordinator may be ready before they have.
class ReadySignaller final : public std::stringbuf {
 public:
  ReadySignaller(int signal, int64_t num_workers)
      : signal_(signal), num_workers_(num_workers) {}

 protected:
  int sync() override {
    const std::string text = str();
    int64_t num_heard = 0;
    for (size_t at = text.find(kFlags); at != std::string::npos;
         at = text.find(kFlags, at + 1)) {
      ++num_heard;
    }
    if (!sent_ && num_heard >= num_workers_ &&
        text.find("is ready after") != std::string::npos) {
      sent_ = true;
      kill(getpid(), signal_);
    }
    return 0;
  }

 private:
  static constexpr char kFlags[] = "| flags:";
  const int signal_;
  const int64_t num_workers_;
  bool sent_ = false;
};

// Kills worker 2 when the server is ready, and ends the server once that worker
// has said `times` that it is there.
class WorkerKiller final : public std::stringbuf {
 public:
  explicit WorkerKiller(int times) : times_(times) {}

 protected:
  int sync() override {
    const std::string text = str();
    int num_seen = 0;
    int pid = 0;
    for (size_t at = text.find(kLine); at != std::string::npos;
         at = text.find(kLine, at + 1)) {
      const size_t pid_at = text.find(" pid=", at);
      if (pid_at == std::string::npos) break;
      ++num_seen;
      pid = std::stoi(text.substr(pid_at + 5));
    }
    if (!killed_ && num_seen == 1 &&
        text.find("is ready after") != std::string::npos) {
      killed_ = true;
      kill(pid, SIGKILL);
    }
    const bool is_heard =
        text.find("the worker 2 was killed") != std::string::npos;
    if (is_heard && num_seen == times_ && !ended_) {
      ended_ = true;
      kill(getpid(), SIGTERM);
    }
    return 0;
  }

 private:
  static constexpr char kLine[] = "worker 2| flags:";
  const int times_;
  bool killed_ = false;
  bool ended_ = false;
};

// Has the coordinator dismiss worker 1 when the server is ready, after the same
// process under another's rank. Ends the server once worker 1 is there again.
class WorkerDismisser final : public std::stringbuf {
 protected:
  int sync() override {
    const std::string text = str();
    const size_t first = text.find(kLine);
    if (first == std::string::npos) return 0;
    const size_t pid_at = text.find(" pid=", first);
    if (!dismissed_ && pid_at != std::string::npos &&
        text.find("is ready after") != std::string::npos) {
      dismissed_ = true;
      const std::string flag = "--coordinator=";
      const size_t begin = text.find(flag, first) + flag.size();
      const auto stub = v1::Cluster::NewStub(
          MakeChannel(text.substr(begin, text.find(' ', begin) - begin)));
      for (const uint32_t rank : {0, 1}) {
        v1::RegisterRequest request;
        request.set_rank(rank);
        request.set_pid(std::stoi(text.substr(pid_at + 5)));
        grpc::ClientContext context;
        v1::RegisterResponse response;
        EXPECT_TRUE(stub->Register(&context, request, &response).ok());
      }
    }
    if (!ended_ && text.find(kLine, first + 1) != std::string::npos) {
      ended_ = true;
      kill(getpid(), SIGTERM);
    }
    return 0;
  }

 private:
  static constexpr char kLine[] = "worker 1| flags:";
  bool dismissed_ = false;
  bool ended_ = false;
};

// Ends the server once all of `lines` have been said.
class LinesAwaiter final : public std::stringbuf {
 public:
  explicit LinesAwaiter(std::vector<std::string> lines)
      : lines_(std::move(lines)) {}

 protected:
  int sync() override {
    const std::string text = str();
    bool is_done = !ended_;
    for (const std::string& line : lines_) {
      is_done &= text.find(line) != std::string::npos;
    }
    if (is_done) {
      ended_ = true;
      kill(getpid(), SIGTERM);
    }
    return 0;
  }

 private:
  const std::vector<std::string> lines_;
  bool ended_ = false;
};

class LauncherTest : public testing::Test {
 protected:
  LauncherTest() {
    options_.coordinator_binary = Runfile("tests/tools/fakes/fake_coordinator");
    options_.worker_binary = Runfile("tests/tools/fakes/fake_worker");
    options_.num_workers = 2;
    options_.log_dir = testing::TempDir();
    options_.ready_file = testing::TempDir() + "/ready";
    unlink(options_.ready_file.c_str());
  }
  // Whose workers are started again.
  void ServeTwoGroupsOfOne() {
    options_.num_groups = 2;
    options_.num_workers = 1;
    options_.restarts_workers = true;
  }
  int Run(int signal = SIGTERM) {
    // They are only heard if the server repeats what they say.
    ReadySignaller buffer(
        signal,
        options_.verbose ? options_.num_groups * options_.num_workers : 0);
    return RunInto(&buffer);
  }
  int RunInto(std::stringbuf* buffer) {
    std::ostream err(buffer);
    SignalEvents events(SignalEvents::Children::kReport);
    int result;
    {
      Launcher launcher(options_, &events, &err, &clock_);
      result = launcher.Run();
    }
    text_ = buffer->str();
    // Whatever happened, nobody is left.
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
    return result;
  }
  std::string ReadFile(const std::string& path) const {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  RealClock clock_;
  LauncherOptions options_;
  std::string text_;
};

TEST_F(LauncherTest, ServesUntilTerminatedAndEndsCleanly) {
  options_.verbose = true;
  EXPECT_EQ(Run(SIGTERM), 0) << text_;
  EXPECT_THAT(text_, HasSubstr("weights"));
  EXPECT_THAT(text_, HasSubstr("1024 blocks, 16384 tokens; 4 requests of 4096 "
                               "tokens at once"));
  EXPECT_THAT(text_, HasSubstr("quire generate"));
  EXPECT_THAT(text_, HasSubstr("coordinator| ending after signal 15"));
  EXPECT_THAT(text_, HasSubstr("worker 0| flags: --coordinator=127.0.0.1:"));
  EXPECT_THAT(text_, HasSubstr("--rank=1"));
}

TEST_F(LauncherTest, EachWorkerOfSeveralGroupsIsToldItsPlace) {
  options_.num_groups = 2;
  options_.numbers_gpus = true;
  options_.verbose = true;
  EXPECT_EQ(Run(), 0) << text_;
  for (const std::string place : {"--rank=0 --group=0 --device=cuda:0 ",
                                  "--rank=1 --group=0 --device=cuda:1 ",
                                  "--rank=0 --group=1 --device=cuda:2 ",
                                  "--rank=1 --group=1 --device=cuda:3 "}) {
    EXPECT_THAT(text_, HasSubstr(place));
  }
}

TEST_F(LauncherTest, OneOfSeveralGroupsMayLoseAWorker) {
  options_.num_groups = 2;
  options_.verbose = true;
  WorkerKiller killer(/*times=*/1);
  EXPECT_EQ(RunInto(&killer), 0) << text_;
}

TEST_F(LauncherTest, AWorkerOfSeveralGroupsIsStartedAgainIfThatIsWanted) {
  options_.num_groups = 2;
  options_.restarts_workers = true;
  options_.verbose = true;
  WorkerKiller killer(/*times=*/2);
  EXPECT_EQ(RunInto(&killer), 0) << text_;
}

TEST_F(LauncherTest, AGroupThatCannotBeginIsTriedAgainBesideOthers) {
  ServeTwoGroupsOfOne();
  options_.worker_flags = {"--fake=refuse_1"};
  LinesAwaiter awaiter(
      {"is ready after",
       "the worker 1 exited with status 1: no GPU; --device; its log is " +
           options_.log_dir + "/worker_1.log; it is started again\n",
       "/worker_1.log; it is started again in 1s\n"});
  EXPECT_EQ(RunInto(&awaiter), 0) << text_;
  EXPECT_THAT(text_, Not(HasSubstr("the worker 0 exited")));
}

TEST_F(LauncherTest, AServerIsReadyWithoutWorkersThatNeverJoin) {
  options_.coordinator_flags = {"--fake=half"};
  ServeTwoGroupsOfOne();
  options_.worker_flags = {"--fake=refuse_1"};
  LinesAwaiter awaiter({"warning: not all groups serve"});
  EXPECT_EQ(RunInto(&awaiter), 0) << text_;
}

TEST_F(LauncherTest, AGroupThatHasServedKeepsTheServer) {
  options_.coordinator_flags = {"--fake=loads"};
  ServeTwoGroupsOfOne();
  options_.worker_flags = {"--fake=refuse"};
  LinesAwaiter awaiter({"/worker_0.log; it is started again in 1s",
                        "/worker_1.log; it is started again in 1s"});
  EXPECT_EQ(RunInto(&awaiter), 0) << text_;
}

TEST_F(LauncherTest, NoServerIsLeftWhenNoGroupCanBegin) {
  options_.coordinator_flags = {"--fake=waits"};
  ServeTwoGroupsOfOne();
  options_.worker_flags = {"--fake=refuse"};
  EXPECT_EQ(Run(/*signal=*/0), 1);
  EXPECT_THAT(text_, HasSubstr("no GPU; --device"));
}

TEST_F(LauncherTest, AFlagThatWorkersRefuseIsNotTriedAgain) {
  options_.coordinator_flags = {"--fake=waits"};
  options_.num_groups = 2;
  options_.restarts_workers = true;
  options_.worker_flags = {"--fake=usage"};
  EXPECT_EQ(Run(/*signal=*/0), 2);
  EXPECT_THAT(text_, HasSubstr("unknown flag --fake"));
  EXPECT_THAT(text_, Not(HasSubstr("started again")));
}

TEST_F(LauncherTest, AWorkerOfOneGroupIsStartedAgainIfThatIsWanted) {
  options_.num_workers = 3;
  options_.restarts_workers = true;
  options_.verbose = true;
  WorkerKiller killer(/*times=*/2);
  EXPECT_EQ(RunInto(&killer), 0) << text_;
}

TEST_F(LauncherTest, AServerEndsWithAWorkerOfItsOnlyGroup) {
  options_.num_workers = 3;
  options_.verbose = true;
  WorkerKiller killer(/*times=*/2);
  EXPECT_EQ(RunInto(&killer), 1) << text_;
  EXPECT_THAT(text_, HasSubstr("the worker 2 was killed"));
}

TEST_F(LauncherTest, AWorkerThatIsDismissedAndDoesNotEndIsKilled) {
  options_.restarts_workers = true;
  options_.verbose = true;
  options_.dismissal_grace = absl::Milliseconds(1);
  WorkerDismisser dismisser;
  EXPECT_EQ(RunInto(&dismisser), 0) << text_;
  EXPECT_THAT(text_, HasSubstr("the coordinator has lost the worker 1, which "
                               "is stopped or hangs; it is killed\n"));
  EXPECT_THAT(text_, HasSubstr("the worker 1 was killed by signal 9"));
  EXPECT_THAT(text_, Not(HasSubstr("lost the worker 0")));
}

TEST_F(LauncherTest, PassesCtrlCOnAsItCame) {
  options_.verbose = true;
  EXPECT_EQ(Run(SIGINT), 0) << text_;
  EXPECT_THAT(text_, HasSubstr("coordinator| ending after signal 2"));
}

TEST_F(LauncherTest, WritesTheAddressesWhenReady) {
  EXPECT_EQ(Run(), 0) << text_;
  const std::string ready = ReadFile(options_.ready_file);
  EXPECT_THAT(ready, HasSubstr("public=127.0.0.1:"));
  EXPECT_THAT(ready, HasSubstr("control=127.0.0.1:"));
  EXPECT_THAT(ready, HasSubstr("metrics=127.0.0.1:"));
}

TEST_F(LauncherTest, ACoordinatorThatFailsIsQuoted) {
  options_.coordinator_flags = {"--fake=fail"};
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(text_,
              HasSubstr("coordinator| the model folder lacks config.json"));
  EXPECT_THAT(text_, HasSubstr("quire serve: the coordinator exited with "
                               "status 1 before the server was ready"));
  EXPECT_THAT(text_, Not(HasSubstr("is ready after")));
}

TEST_F(LauncherTest, ARefusedFlagIsWrongUsage) {
  options_.coordinator_flags = {"--fake=usage"};
  EXPECT_EQ(Run(), 2);
}

TEST_F(LauncherTest, AWorkerThatFailsEndsTheServer) {
  // The stand-in coordinator may call itself ready before the worker has died.
  options_.worker_flags = {"--fake=fail"};
  EXPECT_EQ(Run(/*signal=*/0), 1);
  EXPECT_THAT(text_, HasSubstr("worker 1| tensor model.norm.weight of "
                               "model.safetensors is truncated"));
  EXPECT_THAT(text_, HasSubstr("quire serve: the worker 1 exited with status "
                               "1"));
}

TEST_F(LauncherTest, ACoordinatorsOwnReasonIsTheOnlyLine) {
  options_.coordinator_flags = {"--fake=refuse"};
  EXPECT_EQ(Run(/*signal=*/0), 1);
  EXPECT_EQ(text_, "quire serve: no config.json; copy it (log: " +
                       options_.log_dir + "/coordinator.log)\n");
}

TEST_F(LauncherTest, AnErrorOfLoadingIsOneLineWithoutTheWorkersThatFollow) {
  options_.coordinator_flags = {"--fake=unload"};
  options_.worker_flags = {"--fake=orphan"};
  EXPECT_EQ(Run(/*signal=*/0), 1);
  EXPECT_THAT(text_,
              EndsWith("quire serve: rank 1 (127.0.0.1:7): no weights (log: " +
                       options_.log_dir + "/coordinator.log)\n"));
  EXPECT_THAT(text_, Not(HasSubstr("lost the coordinator")));
  EXPECT_THAT(text_, Not(HasSubstr("a log's line")));
  EXPECT_THAT(text_, Not(HasSubstr("exited with status")));
}

TEST_F(LauncherTest, AReasonOfAllWorkersIsSaidOnceAndNamesOne) {
  options_.worker_flags = {"--fake=refuse"};
  EXPECT_EQ(Run(/*signal=*/0), 1);
  const size_t at = text_.find("quire serve: worker ");
  ASSERT_NE(at, std::string::npos) << text_;
  EXPECT_THAT(text_.substr(at), MatchesRegex("quire serve: worker [01]: no "
                                             "GPU; --device \\(log: .*"
                                             "/worker_[01].log\\)\n"));
  EXPECT_THAT(text_, Not(HasSubstr("a log's line")));
}

TEST_F(LauncherTest, AWarningFollowsTheStartBox) {
  options_.coordinator_flags = {"--fake=warn"};
  EXPECT_EQ(Run(), 0) << text_;
  EXPECT_THAT(text_, HasSubstr("\nwarning: no chats: line 3\n"));
}

TEST_F(LauncherTest, AServerThatIsLostIsAFailure) {
  options_.coordinator_flags = {"--fake=lost"};
  EXPECT_EQ(Run(/*signal=*/0), 1);
  EXPECT_THAT(text_, HasSubstr("coordinator| the group is lost"));
}

TEST_F(LauncherTest, WhoDoesNotEndIsKilled) {
  options_.coordinator_flags = {"--fake=deaf"};
  options_.grace = absl::Milliseconds(50);
  EXPECT_EQ(Run(), 0);
  EXPECT_THAT(text_,
              HasSubstr("the coordinator did not end in time and was killed"));
}

TEST_F(LauncherTest, AMissingWorkerProgramIsNamed) {
  options_.worker_binary = "/nowhere/quire_worker";
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(text_, HasSubstr("cannot start the worker 0: "
                               "/nowhere/quire_worker"));
}

}  // namespace
}  // namespace quire
