// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are processes, with a GPU each: one is killed at a random moment,
// over and over. Skipped on a machine with fewer than two GPUs.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/collective/gpu_rank.h"
#include "tests/worker/collective/shared_board.h"
#include "worker/collective/nccl.h"

namespace quire {
namespace {

constexpr int kRounds = 20;
constexpr int kReportMs = 2000;
constexpr int kExitMs = 10000;
constexpr char kReady = 'r', kLost = 'l', kWrong = 'w';

// Adds up, eagerly and from a graph, until the group is over. Says kReady once
// the first sum is there and kLost when it knows of the loss; exits 0 after
// giving back what it has.
void RunRank(int32_t rank, SharedBoard* board, int to_parent) {
  const auto say = [&](char word) { CHECK_EQ(write(to_parent, &word, 1), 1); };
  {
    GpuRank own;
    QUIRE_CHECK_CUDA(cudaSetDevice(rank));
    QUIRE_CHECK_CUDA(
        cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking));
    own.buffer = *AllocateCuda(8 << 20);
    CollectiveOptions options;
    options.rank = rank;
    options.world_size = 2;
    options.num_local_ranks = 2;
    options.gpu = rank;
    options.stream = own.stream;
    auto ranks = CreateCollective("peer", options, board);
    CHECK(ranks.ok()) << ranks.status();
    own.ranks = *std::move(ranks);
    QUIRE_CHECK_CUDA(cudaMemset(own.buffer->data(), 0, 8 << 20));
    const auto reduce = [&](int64_t n) {
      return own.ranks->AllReduceSum(own.buffer->data(), n, DType::kBf16);
    };
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    QUIRE_CHECK_CUDA(
        cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal));
    for (int call = 0; call < 65; ++call) CHECK(reduce(4096).ok());
    QUIRE_CHECK_CUDA(cudaStreamEndCapture(own.stream, &graph));
    QUIRE_CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    say(kReady);
    absl::Status status;
    while (status.ok()) {
      QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, own.stream));
      for (int64_t n : {1, 100000, 4 << 20}) {
        if (status.ok()) status = reduce(n);
      }
      const cudaError_t error = cudaStreamSynchronize(own.stream);
      if (error != cudaSuccess) {
        std::fprintf(stderr, "the device: %s\n", cudaGetErrorString(error));
        say(kWrong);
        _exit(1);
      }
      if (status.ok()) status = own.ranks->status();
    }
    say(absl::IsUnavailable(status) ? kLost : kWrong);
  }
  _exit(0);
}

// What the rank says next, or 0 if it says nothing for that long.
char Hear(int from_rank, int timeout_ms) {
  pollfd fd = {from_rank, POLLIN, 0};
  char word = 0;
  if (poll(&fd, 1, timeout_ms) > 0 && read(from_rank, &word, 1) == 1) {
    return word;
  }
  return 0;
}

TEST(PeerKillTest, TheSurvivorKnowsWithinTwoSeconds) {
  if (NumGpusOfMachine() < 2) GTEST_SKIP() << "two GPUs are wanted";
  PrepareNcclEnvironment("127.0.0.1");
  std::mt19937 random(7);
  double slowest_ms = 0;
  for (int round = 0; round < kRounds; ++round) {
    SharedBoard board;
    int pipes[2][2];
    pid_t pids[2];
    for (int32_t rank = 0; rank < 2; ++rank) {
      ASSERT_EQ(pipe(pipes[rank]), 0);
      pids[rank] = fork();
      if (pids[rank] == 0) RunRank(rank, &board, pipes[rank][1]);
      close(pipes[rank][1]);
    }
    for (int32_t rank = 0; rank < 2; ++rank) {
      ASSERT_EQ(Hear(pipes[rank][0], 60000), kReady) << "rank " << rank;
    }
    const int victim = round % 2;
    const int survivor = 1 - victim;
    // The moment is the test's subject: anywhere in some hundred sums.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 50000));
    const absl::Time killed = absl::Now();
    kill(pids[victim], SIGKILL);
    ASSERT_EQ(Hear(pipes[survivor][0], kReportMs), kLost) << "round " << round;
    slowest_ms =
        std::max(slowest_ms, absl::ToDoubleMilliseconds(absl::Now() - killed));
    // Its pipe closes when it is gone.
    pollfd gone = {pipes[survivor][0], POLLIN, 0};
    ASSERT_GT(poll(&gone, 1, kExitMs), 0) << "round " << round;
    for (int32_t rank = 0; rank < 2; ++rank) {
      int status = 0;
      ASSERT_EQ(waitpid(pids[rank], &status, 0), pids[rank]);
      close(pipes[rank][0]);
      if (rank == survivor) {
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
      }
    }
  }
  std::printf("slowest of %d survivors: %.0f ms\n", kRounds, slowest_ms);
}

}  // namespace
}  // namespace quire
