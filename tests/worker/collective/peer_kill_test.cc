// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are processes, with a GPU each: one is killed at a random moment,
// over and over, and leaves no memory taken. Groups of more ranks than a
// machine has GPUs are skipped.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "kernels/elementwise.h"
#include "tests/worker/collective/gpu_rank.h"
#include "tests/worker/collective/shared_board.h"
#include "worker/collective/nccl.h"

namespace quire {
namespace {

constexpr int kReportMs = 2000;
constexpr int kExitMs = 10000;
constexpr char kReady = 'r', kLost = 'l', kWrong = 'w';

// Less than any rank has of a GPU.
constexpr int64_t kNoMemory = 16 << 20;

// Rows of the buffer, which has room for the norm's other matrices behind them.
NormParams NormOf(char* buffer, int32_t num_rows) {
  constexpr int64_t kPlace = 2 << 20;
  NormParams norm = {};
  norm.kind = NormKind::kRms;
  norm.x = buffer;
  norm.x_dtype = DType::kBf16;
  norm.residual = buffer + kPlace;
  norm.weight = buffer + 2 * kPlace;
  norm.out = buffer + 3 * kPlace;
  norm.epsilon = 1e-5f;
  norm.width = 4096;
  norm.num_tokens = num_rows;
  return norm;
}

// Adds up, with norms and without, eagerly and from a graph, until the group is
// over. Says kReady once the first sum is there and kLost when it knows of the
// loss; exits 0 after giving back what it has.
void RunRank(int32_t rank, int32_t world, SharedBoard* board, int to_parent) {
  const auto say = [&](char word) { CHECK_EQ(write(to_parent, &word, 1), 1); };
  {
    GpuRank own;
    QUIRE_CHECK_CUDA(cudaSetDevice(rank));
    QUIRE_CHECK_CUDA(
        cudaStreamCreateWithFlags(&own.stream, cudaStreamNonBlocking));
    own.buffer = *AllocateCuda(8 << 20);
    CollectiveOptions options;
    options.rank = rank;
    options.world_size = world;
    options.num_local_ranks = world;
    options.gpu = rank;
    options.stream = own.stream;
    auto ranks = CreateCollective("peer", options, board);
    CHECK(ranks.ok()) << ranks.status();
    own.ranks = *std::move(ranks);
    QUIRE_CHECK_CUDA(cudaMemset(own.buffer->data(), 0, 8 << 20));
    const auto reduce = [&](int64_t n) {
      return own.ranks->AllReduceSum(own.buffer->data(), n, DType::kBf16);
    };
    // In one kernel, or where that is no faster the sum alone.
    const auto reduce_and_norm = [&](int32_t num_rows) -> absl::Status {
      const auto is_done = own.ranks->AllReduceNorm(
          NormOf(own.buffer->as<char>(), num_rows), DType::kBf16);
      if (!is_done.ok()) return is_done.status();
      return *is_done ? absl::OkStatus() : reduce(int64_t{num_rows} * 4096);
    };
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    QUIRE_CHECK_CUDA(
        cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal));
    for (int call = 0; call < 65; ++call) {
      CHECK((call % 2 == 0 ? reduce(4096) : reduce_and_norm(1 + call)).ok());
    }
    QUIRE_CHECK_CUDA(cudaStreamEndCapture(own.stream, &graph));
    QUIRE_CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    say(kReady);
    absl::Status status;
    while (status.ok()) {
      QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, own.stream));
      for (int64_t n : {1, 100000, 4 << 20}) {
        if (status.ok()) status = reduce(n);
      }
      for (int32_t num_rows : {1, 33, 256}) {
        if (status.ok()) status = reduce_and_norm(num_rows);
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

// Of the first `world` GPUs, as a child sees them.
std::vector<int64_t> FreeBytes(int32_t world) {
  int fds[2];
  CHECK_EQ(pipe(fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    for (int32_t gpu = 0; gpu < world; ++gpu) {
      size_t free = 0, total = 0;
      QUIRE_CHECK_CUDA(cudaSetDevice(gpu));
      QUIRE_CHECK_CUDA(cudaMemGetInfo(&free, &total));
      const auto bytes = static_cast<int64_t>(free);
      CHECK_EQ(write(fds[1], &bytes, sizeof(bytes)), sizeof(bytes));
    }
    _exit(0);
  }
  close(fds[1]);
  std::vector<int64_t> bytes(world, 0);
  for (int64_t& each : bytes) {
    CHECK_EQ(read(fds[0], &each, sizeof(each)), sizeof(each));
  }
  close(fds[0]);
  waitpid(child, nullptr, 0);
  return bytes;
}

// What the GPUs had before, but for the driver's own.
bool IsAllFree(const std::vector<int64_t>& before) {
  const std::vector<int64_t> now =
      FreeBytes(static_cast<int32_t>(before.size()));
  for (size_t gpu = 0; gpu < before.size(); ++gpu) {
    if (now[gpu] < before[gpu] - kNoMemory) return false;
  }
  return true;
}

class PeerKillTest : public testing::TestWithParam<int32_t> {
 protected:
  struct RankProcess {
    pid_t pid = 0;
    int from = -1;  // what it says
  };

  static std::vector<RankProcess> StartRanks(int32_t world,
                                             SharedBoard* board) {
    std::vector<RankProcess> ranks(world);
    for (int32_t rank = 0; rank < world; ++rank) {
      int fds[2];
      CHECK_EQ(pipe(fds), 0);
      ranks[rank].pid = fork();
      if (ranks[rank].pid == 0) RunRank(rank, world, board, fds[1]);
      close(fds[1]);
      ranks[rank].from = fds[0];
    }
    return ranks;
  }

  // All but the victim say so in time, and are gone with all they had.
  void ExpectTheOthersToEnd(const std::vector<RankProcess>& ranks,
                            int32_t victim, absl::Time killed) {
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (static_cast<int32_t>(rank) == victim) continue;
      ASSERT_EQ(Hear(ranks[rank].from, kReportMs), kLost) << "rank " << rank;
      slowest_ms_ = std::max(slowest_ms_,
                             absl::ToDoubleMilliseconds(absl::Now() - killed));
    }
    EXPECT_LT(slowest_ms_, kReportMs);
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      pollfd gone = {ranks[rank].from, POLLIN, 0};  // its pipe closes
      ASSERT_GT(poll(&gone, 1, kExitMs), 0) << "rank " << rank;
      int status = 0;
      ASSERT_EQ(waitpid(ranks[rank].pid, &status, 0), ranks[rank].pid);
      close(ranks[rank].from);
      if (static_cast<int32_t>(rank) == victim) continue;
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    }
  }

  double slowest_ms_ = 0;
};

TEST_P(PeerKillTest, SurvivorsKnowWithinTwoSecondsAndLeaveNoMemory) {
  const int32_t world = GetParam();
  if (NumGpusOfMachine() < world) {
    GTEST_SKIP() << world << " GPUs are wanted";
  }
  PrepareNcclEnvironment("127.0.0.1");
  const int num_rounds = 40 / world;  // that many more ranks take to meet
  const std::vector<int64_t> before = FreeBytes(world);
  std::mt19937 random(7);
  for (int round = 0; round < num_rounds; ++round) {
    SCOPED_TRACE(round);
    SharedBoard board;
    const std::vector<RankProcess> ranks = StartRanks(world, &board);
    for (int32_t rank = 0; rank < world; ++rank) {
      ASSERT_EQ(Hear(ranks[rank].from, 60000), kReady) << "rank " << rank;
    }
    const int32_t victim = round % world;
    // The moment is the test's subject: anywhere in some hundred sums.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 50000));
    const absl::Time killed = absl::Now();
    kill(ranks[victim].pid, SIGKILL);
    ASSERT_NO_FATAL_FAILURE(ExpectTheOthersToEnd(ranks, victim, killed));
  }
  // The driver may take a while over what the killed ones had.
  const absl::Time deadline = absl::Now() + absl::Milliseconds(kExitMs);
  bool is_free = IsAllFree(before);
  while (!is_free && absl::Now() < deadline) is_free = IsAllFree(before);
  EXPECT_TRUE(is_free);
  std::printf("slowest survivor of %d groups of %d: %.0f ms\n", num_rounds,
              world, slowest_ms_);
}

INSTANTIATE_TEST_SUITE_P(Ranks, PeerKillTest, testing::Values(2, 4, 8),
                         [](const auto& info) {
                           return std::to_string(info.param);
                         });

}  // namespace
}  // namespace quire
