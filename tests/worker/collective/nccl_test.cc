// SPDX-License-Identifier: Apache-2.0
//
// What needs two GPUs is skipped on a machine with fewer.
#include "worker/collective/nccl.h"

#include <cstdlib>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/worker/collective/gpu_rank.h"
#include "tests/worker/collective/rank_threads.h"
#include "worker/collective/rank_sum.h"

namespace quire {
namespace {

class NcclTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { PrepareNcclEnvironment("127.0.0.1"); }

  // The most ranks that this machine has GPUs for, of 1, 2, 4 and 8.
  static int32_t MostRanks() {
    int32_t most = 1;
    while (most < 8 && 2 * most <= NumGpus()) most *= 2;
    return most;
  }
};

#define SKIP_BELOW_TWO_GPUS() \
  if (MostRanks() < 2) GTEST_SKIP() << "two GPUs are wanted, " << NumGpus()

std::vector<float> SumOf(int32_t world, int64_t n) {
  std::vector<std::vector<float>> inputs;
  std::vector<const void*> sources;
  for (int32_t rank = 0; rank < world; ++rank) {
    inputs.push_back(Unordered(rank, n));
  }
  for (const auto& input : inputs) sources.push_back(input.data());
  std::vector<float> sum(n);
  SumInRankOrder(sources, sum.data(), n, DType::kF32);
  return sum;
}

// In float the sum of two has one value. So has that of more, if they are added
// in rank order.
TEST_F(NcclTest, AllReduceAddsInRankOrderWhateverTheSize) {
  SKIP_BELOW_TWO_GPUS();
  for (int32_t world = 2; world <= MostRanks(); world *= 2) {
    CollectiveOptions options;
    options.is_deterministic = true;
    OnEveryGpu(world, 64 << 20, options, [&](GpuRank& own) {
      // Both sides of NCCL's protocols and of a piece that is gathered.
      for (int64_t n : {1, 31, 4096, 4097, 262145, 2097153, 9000001}) {
        own.Upload(Unordered(own.ranks->rank(), n));
        ASSERT_TRUE(
            own.ranks->AllReduceSum(own.buffer->data(), n, DType::kF32).ok());
        ASSERT_EQ(own.Download<float>(n), SumOf(world, n))
            << world << " ranks, " << n << " elements";
      }
    });
  }
}

TEST_F(NcclTest, Bf16IsRoundedOnce) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryGpu(2, 1 << 20, CollectiveOptions(), [&](GpuRank& own) {
    // 1 and 2 in bf16: 3 is 0x4040. 256 and 1: 257 is a tie, and goes to the
    // even 256.
    std::vector<uint16_t> data(1000, own.ranks->rank() == 0 ? 0x3f80 : 0x4000);
    data[1] = own.ranks->rank() == 0 ? 0x4380 : 0x3f80;
    own.Upload(data);
    ASSERT_TRUE(
        own.ranks->AllReduceSum(own.buffer->data(), 1000, DType::kBf16).ok());
    std::vector<uint16_t> expected(1000, 0x4040);
    expected[1] = 0x4380;
    ASSERT_EQ(own.Download<uint16_t>(1000), expected);
  });
}

TEST_F(NcclTest, AGraphReplaysWhatItCaptured) {
  SKIP_BELOW_TWO_GPUS();
  constexpr int64_t kElements = 5000;
  OnEveryGpu(2, 1 << 20, CollectiveOptions(), [&](GpuRank& own) {
    const auto reduce = [&] {
      return own.ranks->AllReduceSum(own.buffer->data(), kElements,
                                     DType::kF32);
    };
    own.Upload(std::vector<float>(kElements, 1));
    ASSERT_TRUE(reduce().ok());  // connects what is connected late
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    QUIRE_CHECK_CUDA(
        cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal));
    ASSERT_TRUE(reduce().ok());
    ASSERT_TRUE(reduce().ok());
    QUIRE_CHECK_CUDA(cudaStreamEndCapture(own.stream, &graph));
    QUIRE_CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    for (int round = 0; round < 3; ++round) {
      const float one = own.ranks->rank() == 0 ? 1 : 2;
      own.Upload(std::vector<float>(kElements, one));
      QUIRE_CHECK_CUDA(cudaGraphLaunch(replay, own.stream));
      ASSERT_EQ(own.Download<float>(kElements),
                std::vector<float>(kElements, 6));
    }
    QUIRE_CHECK_CUDA(cudaGraphExecDestroy(replay));
    QUIRE_CHECK_CUDA(cudaGraphDestroy(graph));
  });
}

TEST_F(NcclTest, WhatIsNotASumGoesThroughHostMemory) {
  SKIP_BELOW_TWO_GPUS();
  OnEveryGpu(2, 256, CollectiveOptions(), [&](GpuRank& own) {
    int32_t out[2] = {-1, -1};
    const int32_t mine = 7 + own.ranks->rank();
    ASSERT_TRUE(own.ranks->AllGather(&mine, out, sizeof(mine)).ok());
    EXPECT_EQ(out[0], 7);
    EXPECT_EQ(out[1], 8);
    ASSERT_TRUE(own.ranks->Barrier().ok());
  });
}

TEST_F(NcclTest, TheGroupsEndFreesARankThatWaitsOnItsGpu) {
  SKIP_BELOW_TWO_GPUS();
  GroupEnd end;
  absl::Notification is_over;
  CollectiveOptions options;
  options.group_end = &end;
  OnEveryGpu(2, 1 << 20, options, [&](GpuRank& own) {
    own.Upload(std::vector<float>(1000, 1));
    ASSERT_TRUE(
        own.ranks->AllReduceSum(own.buffer->data(), 1000, DType::kF32).ok());
    QUIRE_CHECK_CUDA(cudaStreamSynchronize(own.stream));
    if (own.ranks->rank() == 1) {
      is_over.WaitForNotification();  // lives, and takes no part
      return;
    }
    ASSERT_TRUE(
        own.ranks->AllReduceSum(own.buffer->data(), 1000, DType::kF32).ok());
    ASSERT_EQ(cudaStreamQuery(own.stream), cudaErrorNotReady);
    end.Announce(absl::UnavailableError("the coordinator says so"));
    ASSERT_EQ(cudaStreamSynchronize(own.stream), cudaSuccess);
    EXPECT_TRUE(absl::IsUnavailable(
        own.ranks->AllReduceSum(own.buffer->data(), 1000, DType::kF32)));
    EXPECT_TRUE(absl::IsUnavailable(own.ranks->Barrier()));
    is_over.Notify();
  });
}

// One GPU is enough for who stays alone.
class AloneTest : public NcclTest {
 protected:
  void SetUp() override {
    if (NumGpus() < 1) GTEST_SKIP() << "a GPU is wanted";
    options_.world_size = 2;
  }
  absl::Status Connect() {
    MemoryBoard board;
    return ConnectNccl(options_, &board, nullptr).status();
  }
  NcclOptions options_;
};

TEST_F(AloneTest, APeerThatNeverJoinsIsUnavailable) {
  options_.connect_timeout = absl::Milliseconds(200);
  EXPECT_TRUE(absl::IsUnavailable(Connect())) << Connect();
}

TEST_F(AloneTest, TheGroupsEndEndsJoining) {
  GroupEnd end;
  end.Announce(absl::UnavailableError("the epoch is over"));
  options_.group_end = &end;
  const absl::Status status = Connect();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_NE(status.message().find("the epoch is over"), std::string::npos)
      << status;
}

TEST_F(AloneTest, MulticastMustBeOff) {
  ASSERT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "0");
  unsetenv("NCCL_NVLS_ENABLE");
  EXPECT_TRUE(absl::IsFailedPrecondition(Connect()));
  PrepareNcclEnvironment("127.0.0.1");
}

}  // namespace
}  // namespace quire
