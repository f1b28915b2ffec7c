// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/shm.h"

#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/collective/memory_board.h"
#include "tests/worker/collective/rank_threads.h"

namespace quire {
namespace {

TEST(ShmTest, AllReduceAddsInRankOrderWhateverTheSize) {
  for (int32_t world : {1, 2, 3, 4}) {
    OnEveryRank(ConnectShm, world, [&](std::unique_ptr<Collective> ranks) {
      // Both sides of one round or two (4096 floats) and of what an area holds
      // (262144 floats).
      for (int64_t n : {0, 1, 31, 4096, 4097, 262144, 600001}) {
        ExpectSumInRankOrder(*ranks, world, n);
      }
      ASSERT_TRUE(ranks->Barrier().ok());
    });
  }
}

TEST(ShmTest, Bf16IsAddedAsOneWouldAlone) {
  OnEveryRank(ConnectShm, 2, [](std::unique_ptr<Collective> ranks) {
    // 1 and 2 in bf16: 3 is 0x4040.
    std::vector<uint16_t> data(9, ranks->rank() == 0 ? 0x3f80 : 0x4000);
    ASSERT_TRUE(ranks->AllReduceSum(data.data(), 9, DType::kBf16).ok());
    ASSERT_EQ(data, std::vector<uint16_t>(9, 0x4040));
    ASSERT_TRUE(ranks->Barrier().ok());
  });
}

TEST(ShmTest, AllGatherOrdersByRankAlsoInPlaceAndInPieces) {
  OnEveryRank(ConnectShm, 3, [](std::unique_ptr<Collective> ranks) {
    for (int64_t n : {1, 1000, 300'000}) {
      std::vector<int32_t> out(3 * n, -1);
      int32_t* mine = &out[n * ranks->rank()];
      for (int64_t i = 0; i < n; ++i) mine[i] = ranks->rank() + 3 * i;
      ASSERT_TRUE(ranks->AllGather(mine, out.data(), 4 * n).ok());
      for (int32_t peer = 0; peer < 3; ++peer) {
        for (int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(out[peer * n + i], peer + 3 * i);
        }
      }
    }
    ASSERT_TRUE(ranks->Barrier().ok());
  });
}

// The areas are used again every second round, so a rank that ran ahead would
// spoil what a slow one still reads.
TEST(ShmTest, ManySmallRoundsKeepTheirValuesApart) {
  OnEveryRank(ConnectShm, 4, [](std::unique_ptr<Collective> ranks) {
    for (int32_t round = 0; round < 3000; ++round) {
      float sum = static_cast<float>(round * (ranks->rank() + 1));
      ASSERT_TRUE(ranks->AllReduceSum(&sum, 1, DType::kF32).ok());
      ASSERT_EQ(sum, 10.f * round);
      if (round % 7 == ranks->rank()) std::this_thread::yield();
    }
    ASSERT_TRUE(ranks->Barrier().ok());
  });
}

TEST(ShmTest, APeerThatNeverJoinsIsUnavailable) {
  MemoryBoard board;
  ShmOptions options;
  options.world_size = 2;
  options.connect_timeout = absl::Milliseconds(20);
  EXPECT_EQ(ConnectShm(options, &board).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(ShmTest, APeerThatLeavesIsUnavailableLongBeforeTheTimeout) {
  OnEveryRank(ConnectShm, 2, [](std::unique_ptr<Collective> ranks) {
    ASSERT_TRUE(ranks->Barrier().ok());
    if (ranks->rank() == 1) return;  // leaves
    EXPECT_EQ(ranks->Barrier().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(ranks->Barrier().code(), absl::StatusCode::kUnavailable);
  });
}

TEST(ShmTest, APeerThatComesTooLateIsUnavailable) {
  MemoryBoard board;
  const auto connect = [&](int32_t rank) {
    ShmOptions options;
    options.rank = rank;
    options.world_size = 2;
    options.operation_timeout = absl::Milliseconds(1);
    return ConnectShm(options, &board);
  };
  std::unique_ptr<Collective> silent;
  std::thread peer([&] { silent = *connect(1); });
  auto waiting = connect(0);
  peer.join();
  ASSERT_TRUE(waiting.ok());
  EXPECT_EQ((*waiting)->Barrier().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace quire
