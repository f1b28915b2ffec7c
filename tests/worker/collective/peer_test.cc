// SPDX-License-Identifier: Apache-2.0
//
// Skipped on a machine with fewer than two GPUs.
#include "worker/collective/peer.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/worker/collective/gpu_rank.h"
#include "worker/collective/nccl.h"

namespace quire {
namespace {

class PeerTest : public testing::Test {
 protected:
  void SetUp() override {
    PrepareNcclEnvironment("127.0.0.1");
    if (NumGpus() < 2) GTEST_SKIP() << "two GPUs are wanted, " << NumGpus();
    world_ = NumGpus() >= 8 ? 8 : NumGpus() >= 4 ? 4 : 2;
  }
  int32_t world_ = 0;
};

TEST_F(PeerTest, SumsOfAnySizeGoTheirWay) {
  for (const char* name : {"auto", "peer"}) {
    OnEveryGpu(
        world_, 80 << 20, CollectiveOptions(),
        [&](GpuRank& own) {
          EXPECT_EQ(own.ranks->name(), "peer");
          for (const int64_t n : {1, 1000, 262144, 2097152 + 3, 16777216 + 5}) {
            // Whole numbers: sums are exact in any order.
            std::vector<float> mine(n), sum(n);
            for (int64_t i = 0; i < n; ++i) {
              const float x = static_cast<float>(i % 4099);
              mine[i] = x + own.ranks->rank();
              sum[i] = world_ * x + world_ * (world_ - 1) / 2;
            }
            own.Upload(mine);
            ASSERT_TRUE(
                own.ranks->AllReduceSum(own.buffer->data(), n, DType::kF32)
                    .ok());
            ASSERT_EQ(own.Download<float>(n), sum) << name << " " << n;
          }
          EXPECT_TRUE(own.ranks->status().ok());
          ASSERT_TRUE(own.ranks->Barrier().ok());
        },
        name);
  }
}

TEST_F(PeerTest, EveryRankNamesItsLinks) {
  OnEveryGpu(
      world_, 256, CollectiveOptions(),
      [&](GpuRank& own) {
        const std::vector<std::string> links = own.ranks->links();
        ASSERT_EQ(links.size(), world_);
        for (int32_t rank = 0; rank < world_; ++rank) {
          EXPECT_EQ(links[rank].empty(), rank == own.ranks->rank());
        }
        ASSERT_TRUE(own.ranks->Barrier().ok());
      },
      "auto");
}

TEST_F(PeerTest, OnlyFewRowsAreNormedByTheSum) {
  OnEveryGpu(
      2, 8 << 20, CollectiveOptions(),
      [&](GpuRank& own) {
        NormParams norm = {};
        norm.kind = NormKind::kRms;
        norm.x = own.buffer->data();
        norm.x_dtype = DType::kF32;
        norm.out = own.buffer->as<char>() + (4 << 20);
        norm.epsilon = 0;
        norm.width = 64;
        norm.num_tokens = 2;
        own.Upload(std::vector<float>(128, 1.5f));
        const auto is_done = own.ranks->AllReduceNorm(norm, DType::kF32);
        ASSERT_TRUE(is_done.ok() && *is_done);
        std::vector<float> out(128);
        QUIRE_CHECK_CUDA(cudaMemcpyAsync(out.data(), norm.out, 512,
                                         cudaMemcpyDeviceToHost, own.stream));
        QUIRE_CHECK_CUDA(cudaStreamSynchronize(own.stream));
        EXPECT_EQ(out, std::vector<float>(128, 1.0f));
        norm.num_tokens = 1000;
        EXPECT_FALSE(*own.ranks->AllReduceNorm(norm, DType::kF32));
        norm.num_tokens = 2;
        norm.width = 63;  // not whole vectors
        EXPECT_FALSE(*own.ranks->AllReduceNorm(norm, DType::kF32));
        ASSERT_TRUE(own.ranks->Barrier().ok());
      },
      "auto");
}

TEST_F(PeerTest, TheGroupsEndFreesARankThatWaitsOnItsGpu) {
  GroupEnd end;
  absl::Notification is_over;
  CollectiveOptions options;
  options.group_end = &end;
  OnEveryGpu(
      2, 1 << 20, options,
      [&](GpuRank& own) {
        if (own.ranks->rank() == 1) {
          is_over.WaitForNotification();  // lives, and takes no part
          return;
        }
        own.Upload(std::vector<float>(1000, 1));
        ASSERT_TRUE(
            own.ranks->AllReduceSum(own.buffer->data(), 1000, DType::kF32)
                .ok());
        ASSERT_EQ(cudaStreamQuery(own.stream), cudaErrorNotReady);
        end.Announce(absl::UnavailableError("the coordinator says so"));
        ASSERT_EQ(cudaStreamSynchronize(own.stream), cudaSuccess);
        const absl::Status status = own.ranks->status();
        EXPECT_TRUE(absl::IsUnavailable(status));
        EXPECT_TRUE(absl::StrContains(status.message(), "coordinator says so"));
        EXPECT_TRUE(absl::IsUnavailable(
            own.ranks->AllReduceSum(own.buffer->data(), 1000, DType::kF32)));
        is_over.Notify();
      },
      "auto");
}

}  // namespace
}  // namespace quire
